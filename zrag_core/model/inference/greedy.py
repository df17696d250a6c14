"""Greedy decoding token by token."""

from __future__ import annotations

import torch

from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.network import Prompt


@torch.no_grad()
def greedy_tokens(backbone: Backbone, prompt: Prompt, max_new_tokens: int, min_new_tokens: int = 0) -> torch.Tensor:
    """Token ids [B, T] behind B prompts; what has ended goes on with padding."""
    tokens: torch.Tensor = backbone.lm.generate(
        inputs_embeds=prompt.embeds,
        attention_mask=prompt.mask,
        position_ids=prompt.position_ids,
        min_new_tokens=min_new_tokens,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=backbone.pad_id,
        eos_token_id=backbone.eos_id,
    )
    return tokens
