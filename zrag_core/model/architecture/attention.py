"""Attention in float32 inside a bfloat16 autocast.

PyTorch's CPU kernel for the backward pass of bfloat16 attention is several times slower than the float32 one, so that
autocast gains nothing from its twice as fast matrix products unless attention is kept out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from zrag_core.model.architecture.backbone import Backbone

_NAME = "sdpa_float32"


@contextmanager
def float32_attention(backbone: Backbone, *, compiled: bool) -> Iterator[None]:
    """Run a backbone's attention in float32 inside the context; `compiled` also compiles its layers meanwhile.

    Layers and not the whole decoder: they are called with few kinds of masks, each of which is compiled anew.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    before = backbone.lm.config._attn_implementation
    backbone.lm.set_attn_implementation(_NAME)
    layers = backbone.decoder.layers if compiled else ()
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
        backbone.lm.set_attn_implementation(before)


def _attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **options: Any
) -> Any:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    with torch.autocast(query.device.type, enabled=False):
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.float()
        output, weights = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **options)
    return output.to(query.dtype), weights
