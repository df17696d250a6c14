"""Aggregates scores per question into leaderboard rows: means with bootstrap intervals by system and budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from zrag_core.evaluation.bootstrap import bootstrap_interval
from zrag_core.evaluation.metrics import METRICS, metrics_of
from zrag_core.settings import LOCAL_MODEL

KEYS = ("corpus_version", "split", "question_type", "system", "reader", "budget")
ALL_TYPES = "all"
LIST_COST = "usd_per_1000"
"""Column that the leaderboard may carry beside: US dollars per 1,000 questions answered, at list prices."""
ESTIMATED_COST = "estimated_usd_per_1000"
"""The same where nothing was paid: what the configured answering model would cost for the same prompts."""
_READER_NOTES = {
    "offline": "offline reader: extractive stand-in",
    "local": f"local reader: {LOCAL_MODEL}, not ChatGPT",
}
_ONE_DOCUMENT = "intervals need at least two documents"
_NEEDED = (*KEYS, "question_id", "cluster", "evidence_tokens", "latency_ms", "cost_usd")


def interval_means() -> dict[str, str]:
    """Leaderboard column -> column of the rows per question, of the means that have intervals."""
    means = {metric.column: metric.name for metric in METRICS.values() if metric.interval}
    return {**means, "evidence_tokens": "evidence_tokens"}


def plain_means() -> dict[str, str]:
    """Leaderboard column -> column of the rows per question, of the means without intervals."""
    return {metric.column: metric.name for metric in METRICS.values() if not metric.interval}


def leaderboard_columns() -> tuple[str, ...]:
    """The columns of `aggregate`."""
    return (
        *KEYS,
        "n_questions",
        *interval_means(),
        "latency_p50_ms",
        "latency_p95_ms",
        "cost_usd",
        "judge_cost_usd",
        *(f"{column}_{side}" for column in interval_means() for side in ("low", "high")),
        *plain_means(),
        "notes",
    )


def aggregate(rows: pd.DataFrame, *, samples: int = 1000, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Aggregate scores per question.

    Args:
        rows: one row per corpus version, split, system, reader, budget and question, with `question_type`,
            `cluster` (the question's first gold document, or its id), the registered metrics, `evidence_tokens`,
            `latency_ms` and `cost_usd`; metrics that are not defined for a question are null. Metrics of the answer
            may be missing where nothing was answered, `judge_cost_usd` where no judge was asked.
        samples: resamples behind each interval.
        confidence: level of the intervals.
        seed: of the resamples; the same for all systems, so that they are comparable.

    Returns:
        One row per `KEYS`, with `question_type` "all" beside each type, in order of first appearance:
        `leaderboard_columns`. Means leave nulls out; costs are sums; latency comes as percentiles. `notes` says what
        one has to know to read the row, or is null.

    Raises:
        ValueError: a column is missing, or a question stands twice in the same group.
    """
    evidence = [metric.name for metric in metrics_of("ranking", "evidence")]
    if missing := [column for column in (*_NEEDED, *evidence) if column not in rows.columns]:
        raise ValueError(f"columns are missing: {', '.join(missing)}")
    if rows.duplicated([*KEYS, "question_id"]).any():
        raise ValueError("a question stands twice for the same system, reader and budget")
    optional = [*(metric.name for metric in metrics_of("answer")), "judge_cost_usd"]
    rows = rows.assign(**{column: float("nan") for column in optional if column not in rows.columns})
    numbers = (*METRICS, "evidence_tokens", "latency_ms", "cost_usd", "judge_cost_usd")
    numeric = rows.astype(dict.fromkeys(numbers, float))
    table = [
        {**dict(zip(KEYS, key, strict=True)), **_summary(group, samples, confidence, seed)}
        for key, group in _groups(numeric)
    ]
    return pd.DataFrame(table, columns=list(leaderboard_columns()))


def _groups(rows: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    for view in (rows.assign(question_type=ALL_TYPES), rows):
        yield from view.groupby(list(KEYS), sort=False, dropna=False)


def _summary(group: pd.DataFrame, samples: int, confidence: float, seed: int) -> dict[str, Any]:
    clusters = group["cluster"].to_numpy(dtype=str)
    latency = group["latency_ms"].quantile([0.5, 0.95])
    summary: dict[str, Any] = {
        "n_questions": len(group),
        "latency_p50_ms": latency[0.5],
        "latency_p95_ms": latency[0.95],
        "cost_usd": group["cost_usd"].sum(min_count=1),
        "judge_cost_usd": group["judge_cost_usd"].sum(min_count=1),
        **{column: group[name].mean() for column, name in plain_means().items()},
        "notes": _notes(group),
    }
    for column, name in interval_means().items():
        values = group[name].to_numpy()
        summary[column] = group[name].mean()
        interval = bootstrap_interval(values, clusters, samples=samples, confidence=confidence, seed=seed)
        summary[f"{column}_low"], summary[f"{column}_high"] = interval
    return summary


def _notes(group: pd.DataFrame) -> str | None:
    reader = group["reader"].iloc[0]
    notes = [_READER_NOTES[reader]] if reader in _READER_NOTES else []
    if group["cluster"].nunique() < 2:
        notes.append(_ONE_DOCUMENT)
    return "; ".join(notes) or None
