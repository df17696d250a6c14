"""The share of answers that the judge found correct."""

from __future__ import annotations

from zrag_core.evaluation.metrics.metric import Metric, Outcome


def _score(outcome: Outcome) -> float | None:
    return None if outcome.verdict is None else float(outcome.verdict == "correct")


METRICS = (Metric("judged_correct", "judged correct", "answer", _score, compared="yes"),)
