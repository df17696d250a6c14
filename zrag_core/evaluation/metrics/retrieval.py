"""Recall and reciprocal rank of a ranking of documents, against the gold documents of the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zrag_core.evaluation.metrics.metric import Metric, Outcome


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


def _recall(k: int, *, every: bool = False) -> Callable[[Outcome], float | None]:
    measure = recall_all_at if every else recall_at
    return lambda outcome: measure(k, outcome.document_ids, outcome.question.document_ids)


def _reciprocal_rank(outcome: Outcome) -> float | None:
    return reciprocal_rank(outcome.document_ids, outcome.question.document_ids)


METRICS = (
    Metric("recall_at_1", "recall@1", "ranking", _recall(1), compared="main"),
    Metric("recall_at_5", "recall@5", "ranking", _recall(5), by_type=False),
    Metric("recall_at_10", "recall@10", "ranking", _recall(10), compared="yes"),
    # What answering a two-hop question takes.
    Metric("recall_all_at_10", "both @10", "ranking", _recall(10, every=True), interval=False, shown="two_hop"),
    Metric("reciprocal_rank", "MRR", "ranking", _reciprocal_rank, column="mrr"),
)
