"""The metrics: one file per family, and the registry that everything else follows from."""

from __future__ import annotations

from zrag_core.evaluation.metrics import answer_match, coverage, groundedness, judgement, retrieval, rouge
from zrag_core.evaluation.metrics.metric import Metric, Outcome, Subject
from zrag_core.registry import Registry

__all__ = ["METRICS", "Metric", "Outcome", "Subject", "compared_metrics", "metric_version", "metrics_of", "score"]

METRICS: Registry[Metric] = Registry("metric")
# In the order of their columns.
for _family in (retrieval, rouge, coverage, groundedness, answer_match, judgement):
    for _metric in _family.METRICS:
        METRICS.add(_metric)


def metrics_of(*subjects: Subject) -> list[Metric]:
    """The registered metrics of the ranking, the evidence or the answer."""
    return [metric for metric in METRICS.values() if metric.of in subjects]


def compared_metrics(*subjects: Subject) -> list[Metric]:
    """The metrics that systems are compared by: subject by subject, the main ones of each first."""
    chosen = [metric for metric in metrics_of(*subjects) if metric.compared]
    return sorted(chosen, key=lambda metric: (subjects.index(metric.of), metric.compared != "main"))


def score(outcome: Outcome, *subjects: Subject) -> dict[str, float | None]:
    """The figures of one question by metric name; None where a metric is not defined for it."""
    return {metric.name: metric.score(outcome) for metric in metrics_of(*subjects)}


def metric_version() -> str:
    """The version of the metrics, for the rows: "1" until the meaning of one changes."""
    return str(1 + sum(metric.version - 1 for metric in METRICS.values()))
