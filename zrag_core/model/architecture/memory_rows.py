"""Tensors with a row for each document, whose second dimension is as long as the longest document needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from zrag_core.model.architecture.encoder import UNUSED
from zrag_core.model.architecture.word_lists import NO_WORD

Rows = dict[str, torch.Tensor]

_FILL = {"spans": UNUSED, "title_words": NO_WORD, "text_words": NO_WORD}  # all else is zero where nothing is


def place_rows(name: str, target: torch.Tensor, places: Sequence[int], source: torch.Tensor) -> torch.Tensor:
    """`target` [N, w, ...] with the rows `source` [n, v, ...] at `places`; as wide as the wider of the two."""
    width = max(target.shape[1], source.shape[1])
    result = _widened(name, target, width).clone()
    result[list(places)] = _widened(name, source, width).to(result)
    return result


def empty_rows(name: str, like: torch.Tensor, n: int) -> torch.Tensor:
    """`n` rows of nothing."""
    return like.new_full((n, *like.shape[1:]), _FILL.get(name, 0))


def moved_rows(rows: Mapping[str, torch.Tensor], sources: Sequence[int], places: Sequence[int], n: int) -> Rows:
    """Rows `sources` of each tensor at `places` of `n`, nothing elsewhere."""
    moved = {}
    for name, tensor in rows.items():
        moved[name] = empty_rows(name, tensor, n)
        moved[name][list(places)] = tensor.detach()[list(sources)]
    return moved


def _widened(name: str, tensor: torch.Tensor, width: int) -> torch.Tensor:
    if tensor.shape[1] == width:
        return tensor
    more = tensor.new_full((tensor.shape[0], width - tensor.shape[1], *tensor.shape[2:]), _FILL.get(name, 0))
    return torch.cat([tensor, more], 1)
