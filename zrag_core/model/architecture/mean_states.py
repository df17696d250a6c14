"""Hidden states of a decoder's lower layers, averaged over the tokens of a text."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.padding import pad

_BATCH = 64


def layer_at(backbone: Backbone, share: float) -> int:
    """Number of the layer at a depth, as a share of all."""
    return max(1, round(share * int(backbone.lm.config.num_hidden_layers)))


@torch.no_grad()
def mean_states(backbone: Backbone, texts: Sequence[Sequence[int]], shares: Sequence[float]) -> torch.Tensor:
    """Mean hidden states of texts behind some layers, side by side [B, layers x H].

    The first token is left out where there are others: every later one attends to it whatever it is.

    Args:
        texts: token ids.
        shares: depths of the layers, as shares of all.
    """
    layers = [layer_at(backbone, share) for share in shares]
    decoder = first_layers(backbone.decoder, max(layers))
    result = torch.zeros(len(texts), backbone.hidden_size * len(layers), device=backbone.device)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        started = [[*backbone.start_ids, *(texts[row] or [backbone.eos_id])] for row in rows]
        ids, mask = pad(started, backbone.pad_id, backbone.device)
        states = _states(decoder, layers, ids, mask)
        kept = mask.clone()
        kept[:, 0] = kept[:, 0] * (mask.sum(1) == 1)
        share = (kept / kept.sum(1, keepdim=True)).float()
        result[rows] = torch.cat([torch.einsum("bt,bth->bh", share, own.float()) for own in states], 1)
    return result


def _states(decoder: Any, layers: Sequence[int], ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Hidden states [B, T, H] behind some layers of a decoder; behind its last one they are normed."""
    with states_behind(decoder, layers) as kept:
        output = decoder(input_ids=ids, attention_mask=mask, use_cache=False)
    kept[len(decoder.layers)] = output.last_hidden_state
    return [kept[layer] for layer in layers]


@contextmanager
def states_behind(decoder: Any, layers: Sequence[int]) -> Iterator[dict[int, torch.Tensor]]:
    """Keep the hidden states [B, T, H] behind some layers while a decoder runs, by the layer's number.

    Hooks of our own: `output_hidden_states` leaves its hooks in the layers, which several decoders share here.
    """
    kept: dict[int, torch.Tensor] = {}

    def keeper(layer: int) -> Any:
        def keep(_layer: nn.Module, _given: Any, output: Any) -> None:
            kept[layer] = output[0] if isinstance(output, tuple) else output

        return keep

    hooks = [decoder.layers[layer - 1].register_forward_hook(keeper(layer)) for layer in dict.fromkeys(layers)]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def first_layers(decoder: Any, n: int) -> Any:
    """A decoder of the first `n` layers that shares its weights with `decoder`."""
    view = copy.copy(decoder)
    view._modules = {**decoder._modules, "layers": nn.ModuleList(list(decoder.layers)[:n])}
    view.config = copy.copy(decoder.config)
    view.config.num_hidden_layers = n
    return view
