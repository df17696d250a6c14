"""Batches of token ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def pad(
    sequences: Sequence[Sequence[int]], fill: int, device: torch.device, *, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack sequences of token ids into [B, T] with a mask [B, T] (1 at real tokens)."""
    width = max(1, max((len(s) for s in sequences), default=1))
    ids = torch.full((len(sequences), width), fill, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        where = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[row, where] = torch.tensor(sequence, dtype=torch.long)
        mask[row, where] = 1
    return ids.to(device), mask.to(device)


def pad_vectors(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack vectors [T, H] of one or more sequences into [B, T, H] with a mask [B, T]; each ends in the last column."""
    width = max(map(len, rows))
    stacked = rows[0].new_zeros(len(rows), width, rows[0].shape[1])
    mask = torch.zeros(len(rows), width, dtype=torch.long, device=stacked.device)
    for number, own in enumerate(rows):
        stacked[number, width - len(own) :], mask[number, width - len(own) :] = own, 1
    return stacked, mask
