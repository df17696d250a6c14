"""Batches of token ids: padding, and several queries packed behind one document's slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch


@dataclass(frozen=True)
class Packed:
    """Rows of (query, EVIDENCE, evidence) pairs behind a prefix of P slots.

    Attributes:
        ids: [B, T] token ids behind the prefix; a fill value where a marker stands.
        marker: [B, T] where the EVIDENCE marker stands.
        labels: [B, T] the token that follows, or -1 where none is wanted.
        positions: [B, T] place of each token in its pair, from 0.
        allowed: [B, P + T, P + T] which position (second) sees which (third).
    """

    ids: torch.Tensor
    marker: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    allowed: torch.Tensor

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        return Packed(*(getattr(self, field.name).to(device) for field in fields(self)))


def pack(pairs: Sequence[Sequence[tuple[Sequence[int], Sequence[int]]]], prefix: int, fill: int) -> Packed:
    """Lay each document's (query, evidence) pairs side by side; each sees the prefix and itself only."""
    lengths = [sum(len(query) + len(evidence) for query, evidence in row) for row in pairs]
    width = max(1, max(lengths, default=0))
    ids = torch.full((len(pairs), width), fill, dtype=torch.long)
    marker = torch.zeros(len(pairs), width, dtype=torch.bool)
    labels = torch.full((len(pairs), width), -1, dtype=torch.long)
    # Padding belongs to no pair; it sees itself and the prefix, so that no row of the softmax is empty.
    owner = torch.full((len(pairs), prefix + width), len(pairs) + width, dtype=torch.long)
    owner[:, :prefix] = -1
    positions = torch.zeros(len(pairs), width, dtype=torch.long)
    for row, own in enumerate(pairs):
        start = 0
        for number, (query, evidence) in enumerate(own):
            # The query, the marker in the place before the first evidence token, and the evidence but its last token.
            length = len(query) + len(evidence)
            ids[row, start : start + length] = torch.tensor([*query, fill, *evidence[:-1]], dtype=torch.long)
            marker[row, start + len(query)] = True
            labels[row, start + len(query) : start + length] = torch.tensor(evidence, dtype=torch.long)
            owner[row, prefix + start : prefix + start + length] = number
            positions[row, start : start + length] = torch.arange(length)
            start += length
    visible = (owner[:, None, :] == -1) | (owner[:, :, None] == owner[:, None, :])
    allowed = visible & torch.ones(prefix + width, prefix + width, dtype=torch.bool).tril()
    return Packed(ids, marker, labels, positions, allowed)


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
