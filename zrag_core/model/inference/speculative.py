"""Greedy decoding that starts from a draft (speculative decoding, Leviathan et al. 2023, arXiv 2211.17192).

The text comes out that decoding token by token would give: a forward pass over prompt and draft tells where the model
would have chosen otherwise, its own token is put there, and what is left of the draft is tried again. A draft that is
nearly right takes two or three passes instead of one for every token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zrag_core.model.architecture.backbone import positions
from zrag_core.model.architecture.network import MemoryModel, Prompt
from zrag_core.model.architecture.padding import pad, pad_vectors
from zrag_core.model.inference.greedy import greedy_tokens

_ROWS = 32  # sequences read at once
_ROUNDS = 4  # after so many passes a text that still differs from its draft is decoded token by token
_LOGITS = 512  # positions whose logits are held at once


@torch.no_grad()
def follow_drafts(
    model: MemoryModel,
    prompt: Prompt,
    drafts: Sequence[Sequence[int]],
    max_new_tokens: int,
    min_new_tokens: int = 0,
) -> list[str]:
    """Greedy texts of B prompts, whose drafts (token ids) are probably right.

    Args:
        min_new_tokens: with 1 a text cannot be empty.
    """
    written: list[list[int]] = [[] for _ in drafts]
    left = [list(draft) for draft in drafts]
    active = list(range(len(drafts)))
    for _ in range(_ROUNDS):
        going = []
        # Like lengths together: a batch is as wide as its longest sequence.
        active.sort(key=lambda row: int(prompt.mask[row].sum()) + len(written[row]) + len(left[row]))
        for start in range(0, len(active), _ROWS):
            rows = active[start : start + _ROWS]
            inputs = [(written[row] + left[row])[:max_new_tokens] for row in rows]
            chosen = _choices(model, Prompt(*(part[rows] for part in prompt)), inputs, min_new_tokens)
            for row, tokens in zip(rows, chosen, strict=True):
                if not _accept(written[row], left[row], tokens, model.backbone.eos_id, max_new_tokens):
                    going.append(row)
        active = going
    for start in range(0, len(active), _ROWS):
        _finish(model, prompt, active[start : start + _ROWS], written, max_new_tokens)
    return [model.backbone.decode(ids) for ids in written]


def _finish(
    model: MemoryModel, prompt: Prompt, rows: Sequence[int], written: list[list[int]], max_new_tokens: int
) -> None:
    """Decode the rest of some texts token by token; none of them is empty or complete."""
    backbone = model.backbone
    embeds, mask = pad_vectors(
        [torch.cat([prompt.embeds[row][prompt.mask[row].bool()], _embedded(model, written[row])]) for row in rows]
    )
    most = max_new_tokens - min(len(written[row]) for row in rows)
    output = greedy_tokens(backbone, Prompt(embeds, mask, positions(mask)), most)
    for row, tokens in zip(rows, output.tolist(), strict=True):
        for token in tokens[: max_new_tokens - len(written[row])]:
            if token == backbone.eos_id:
                break
            written[row].append(token)


def _embedded(model: MemoryModel, ids: Sequence[int]) -> torch.Tensor:
    tokens = torch.tensor(list(ids), dtype=torch.long, device=model.device)
    return model.backbone.embed(tokens).to(model.lm.dtype)


def _accept(written: list[int], left: list[int], chosen: list[int], eos: int, most: int) -> bool:
    """Take over what the model agrees with and its first own token; whether the text is complete.

    Args:
        chosen: the model's choice at every place, given what was written or drafted before it.
    """
    while len(written) < min(most, len(chosen)):
        token = chosen[len(written)]
        drafted = left.pop(0) if left else None
        if token == eos:
            return True
        written.append(token)
        if token != drafted:
            if left and left[0] == token:  # the draft had a token too many
                left.pop(0)
            break
    return len(written) >= most


def _choices(
    model: MemoryModel, prompt: Prompt, inputs: Sequence[Sequence[int]], min_new_tokens: int
) -> list[list[int]]:
    """The model's choice at each place of B texts and behind them, given the tokens before it."""
    backbone = model.backbone
    kept = prompt.mask.any(0)  # columns that no prompt of the batch needs are left out
    first = int(kept.long().argmax())
    ids, mask = pad(inputs, backbone.pad_id, model.device)
    embeds = torch.cat([prompt.embeds[:, first:], backbone.embed(ids).to(model.lm.dtype)], 1)
    whole = torch.cat([prompt.mask[:, first:], mask], 1)
    before = prompt.position_ids[:, first:]
    position_ids = torch.cat([before, before[:, -1:] + mask.cumsum(1)], 1)
    hidden = backbone.hidden(embeds, whole, position_ids)[:, before.shape[1] - 1 :]  # [B, T + 1, H]
    wanted = torch.cat([torch.ones_like(mask[:, :1]), mask], 1).bool()
    first_place = torch.zeros_like(wanted)
    first_place[:, 0] = min_new_tokens > 0
    never_ends = first_place[wanted]
    parts = []
    for states, forbidden in zip(hidden[wanted].split(_LOGITS), never_ends.split(_LOGITS), strict=True):
        logits = backbone.logits(states)
        logits[forbidden, backbone.eos_id] = -torch.inf
        parts.append(logits.argmax(-1))
    flat = torch.cat(parts).tolist()
    chosen, at = [], 0
    for own in inputs:
        chosen.append(flat[at : at + len(own) + 1])
        at += len(own) + 1
    return chosen
