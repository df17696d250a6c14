"""Measures of a ranking of documents against the gold documents of a question."""

from __future__ import annotations

from collections.abc import Sequence


def recall_at(k: int, ranked: Sequence[str], gold: Sequence[str]) -> float | None:
    """1.0 if any gold document is among the first `k`, else 0.0; None without gold documents."""
    if not gold:
        return None
    return float(not set(gold).isdisjoint(ranked[:k]))


def recall_all_at(k: int, ranked: Sequence[str], gold: Sequence[str]) -> float | None:
    """1.0 if every gold document is among the first `k`, else 0.0; None without gold documents."""
    if not gold:
        return None
    return float(set(gold).issubset(ranked[:k]))


def reciprocal_rank(ranked: Sequence[str], gold: Sequence[str]) -> float | None:
    """1 / rank of the first gold document, 0.0 if none is ranked; None without gold documents."""
    if not gold:
        return None
    wanted = set(gold)
    return next((1.0 / rank for rank, document_id in enumerate(ranked, start=1) if document_id in wanted), 0.0)
