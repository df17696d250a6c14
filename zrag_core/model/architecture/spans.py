"""Spans of a memory: which slots a query reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zrag_core.model.architecture.backbone import Backbone
from zrag_core.sentences import split_sentences


def sentence_ids(backbone: Backbone, text: str, limit: int | None = None) -> list[list[int]]:
    """Token ids of a text's sentences as they are read, in order; with a `limit` the first ones, up to as many tokens
    (at least one)."""
    kept: list[list[int]] = []
    for span in split_sentences(text):
        ids = backbone.encode(span.reading)
        if limit is not None and sum(map(len, kept)) + len(ids) > limit:
            return kept or [ids[:limit]]
        kept.append(ids)
    return kept


def span_slots(
    z: torch.Tensor, spans: torch.Tensor, wanted: torch.Tensor | Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The slots of one span of each of B documents.

    Args:
        z, spans: [B, m, d] and [B, m].
        wanted: [B] span numbers.

    Returns:
        [B, p, d] with the span's slots first, and which of them are there [B, p]. The first one always is: a document
        without text is read as a slot of zeros, so that no prompt is empty.
    """
    wanted = torch.as_tensor(wanted, device=spans.device, dtype=spans.dtype)
    member = spans == wanted[:, None]
    width = max(1, int(member.sum(1).max())) if len(member) else 1
    order = torch.argsort((~member).int(), dim=1, stable=True)[:, :width]
    used = member.gather(1, order)
    chosen = z.gather(1, order[..., None].expand(-1, -1, z.shape[-1])) * used[..., None]
    first = torch.arange(width, device=used.device) == 0
    return chosen, used | first


def whole_document(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All slots of documents z [B, m, d], and that all of them are there [B, m] (policy `joint`)."""
    return z, torch.ones(z.shape[:2], dtype=torch.bool, device=z.device)
