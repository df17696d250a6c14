"""From scores per question to the leaderboard: means with intervals, one row per system and budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from zrag_core.evaluation.bootstrap import bootstrap_interval

KEYS = ("corpus_version", "split", "question_type", "system", "reader", "budget")
# Leaderboard column -> column of the rows per question; with intervals.
MEANS = {
    "recall_at_1": "recall_at_1",
    "recall_at_5": "recall_at_5",
    "recall_at_10": "recall_at_10",
    "mrr": "reciprocal_rank",
    "rouge_l": "rouge_l",
    "answer_coverage": "answer_coverage",
    "evidence_tokens": "evidence_tokens",
    "em": "em",
    "f1": "f1",
    "judged_correct": "judged_correct",
}
# Means without intervals.
PLAIN_MEANS = ("recall_all_at_10", "grounded")
ALL_TYPES = "all"
LIST_COST = "usd_per_1000"
"""Column that the leaderboard may carry beside: US dollars per 1,000 questions answered, at list prices."""
ESTIMATED_COST = "estimated_usd_per_1000"
"""The same where nothing was paid: what the configured answering model would cost for the same prompts."""
_STAND_IN = "offline reader: extractive stand-in"
_ONE_DOCUMENT = "intervals need at least two documents"
# Columns that only runs with a judge have.
_OF_THE_JUDGE = ("judged_correct", "judge_cost_usd")
_MEASURED = tuple(column for column in MEANS.values() if column not in _OF_THE_JUDGE)
_NEEDED = (*KEYS, "question_id", "cluster", *_MEASURED, *PLAIN_MEANS, "latency_ms", "cost_usd")
COLUMNS = (
    *KEYS,
    "n_questions",
    *MEANS,
    "latency_p50_ms",
    "latency_p95_ms",
    "cost_usd",
    "judge_cost_usd",
    *(f"{measure}_{side}" for measure in MEANS for side in ("low", "high")),
    *PLAIN_MEANS,
    "notes",
)


def aggregate(rows: pd.DataFrame, *, samples: int = 1000, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Aggregate scores per question.

    Args:
        rows: one row per corpus version, split, system, reader, budget and question, with `question_type`,
            `cluster` (the question's first gold document, or its id), the measures, `evidence_tokens`,
            `latency_ms` and `cost_usd`; measures that are not defined for a question are null. `judged_correct`
            and `judge_cost_usd` may be missing where no judge was asked.
        samples: resamples behind each interval.
        confidence: level of the intervals.
        seed: of the resamples; the same for all systems, so that they are comparable.

    Returns:
        One row per `KEYS`, with `question_type` "all" beside each type, in order of first appearance:
        `COLUMNS`. Means leave nulls out; costs are sums; latency comes as percentiles. `notes` says what
        one has to know to read the row, or is null.

    Raises:
        ValueError: a column is missing, or a question stands twice in the same group.
    """
    if missing := [column for column in _NEEDED if column not in rows.columns]:
        raise ValueError(f"columns are missing: {', '.join(missing)}")
    if rows.duplicated([*KEYS, "question_id"]).any():
        raise ValueError("a question stands twice for the same system, reader and budget")
    rows = rows.assign(**{column: float("nan") for column in _OF_THE_JUDGE if column not in rows.columns})
    numbers = (*MEANS.values(), *PLAIN_MEANS, "latency_ms", "cost_usd", "judge_cost_usd")
    numeric = rows.astype(dict.fromkeys(numbers, float))
    table = [
        {**dict(zip(KEYS, key, strict=True)), **_summary(group, samples, confidence, seed)}
        for key, group in _groups(numeric)
    ]
    return pd.DataFrame(table, columns=list(COLUMNS))


def _groups(rows: pd.DataFrame) -> Iterator[tuple[tuple, pd.DataFrame]]:
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
        **{measure: group[measure].mean() for measure in PLAIN_MEANS},
        "notes": _notes(group),
    }
    for measure, column in MEANS.items():
        values = group[column].to_numpy()
        summary[measure] = group[column].mean()
        interval = bootstrap_interval(values, clusters, samples=samples, confidence=confidence, seed=seed)
        summary[f"{measure}_low"], summary[f"{measure}_high"] = interval
    return summary


def _notes(group: pd.DataFrame) -> str | None:
    notes = []
    if group["reader"].iloc[0] == "offline":
        notes.append(_STAND_IN)
    if group["cluster"].nunique() < 2:
        notes.append(_ONE_DOCUMENT)
    return "; ".join(notes) or None
