"""Leaderboard and comparisons as tables whose cells know their number, for sorting and for marking the best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

import pandas as pd

from zrag_core.evaluation.comparison_report import comparison_sections, is_shown, measure_columns
from zrag_core.evaluation.leaderboard import ALL_TYPES
from zrag_core.evaluation.leaderboard_report import COVERAGE, MISSING, LeaderboardSection, reader_label
from zrag_core.evaluation.metrics import METRICS, Metric
from zrag_core.systems import in_family


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: what is shown.
        interval: shown small beside it; "" for none.
        value: what the column is sorted by; None sorts last.
        best: whether it is the best of its column, or a difference that is shown.
        words: whether it is a sentence, which takes a wide column.
    """

    text: str
    interval: str = ""
    value: float | str | None = None
    best: bool = False
    words: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of a row is its header, and the first `text_columns` columns are not numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text_columns: int = 1


@dataclass(frozen=True, slots=True)
class TableGroup:
    """Tables about the same questions; `total` tells all question types together from each of them."""

    title: str
    total: bool
    tables: tuple[Table, ...]


def leaderboard_tables(section: LeaderboardSection, answer_budget: int) -> TableGroup:
    """Ranking, coverage by budget and, where there are any, answers of one section, in percent.

    Args:
        section: a split and question type.
        answer_budget: which answers are told in full; where none were given at it, those at every budget.
    """
    tables = [_ranking(section), _coverage(section)]
    answered = section.answered
    at = answered[answered["budget"] == answer_budget]
    if not answered.empty:
        tables.append(_answers(replace(section, answered=answered if at.empty else at)))
    if answered["budget"].nunique() > 1 and not at.empty:
        titled = [(f"F1 by evidence budget, {reader_label(reader)}", own) for reader, own in _readers(answered)]
        tables += [_by_budget(title, own, METRICS["f1"]) for title, own in titled]
    return TableGroup(section.title, section.question_type == ALL_TYPES, tuple(tables))


def comparison_tables(frame: pd.DataFrame) -> Iterator[TableGroup]:
    """The table `comparisons`, for each split and question type the differences at a glance and every pair in words.

    Args:
        frame: as returned by `headline.headline_comparisons`; it may be empty.
    """
    if frame.empty:
        return
    for title, sections in groupby(comparison_sections(frame), key=itemgetter(0)):
        of_reference = [(reference, measure_columns(rows)) for _, reference, rows in sections]
        yield TableGroup(title, True, tuple(_differences(*section) for section in of_reference))
        yield TableGroup(f"{title}, in words", False, tuple(_pairs(*section) for section in of_reference))


def _differences(reference: str, columns: Mapping[str, pd.DataFrame]) -> Table:
    """A line per system, a column per measure; what is shown is marked."""
    systems = dict.fromkeys(system for own in columns.values() for system in own.index)
    rows = tuple(
        (_word(name), *(_points(own.loc[name]) if name in own.index else Cell(MISSING) for own in columns.values()))
        for name in systems
    )
    return Table(f"Against {reference}, in points", ("system", *columns), rows)


def _pairs(reference: str, columns: Mapping[str, pd.DataFrame]) -> Table:
    header = ("system", "measure", "verdict", "p, corrected", "p, McNemar", "questions", "documents")
    rows = tuple(
        (
            _word(system),
            _word(label),
            Cell(row["verdict"], value=row["verdict"], words=True),
            _p_value(row["p_adjusted"]),
            _p_value(row["mcnemar_p"]),
            _count(row["n_questions"]),
            _count(row["n_documents"]),
        )
        for label, own in columns.items()
        for system, row in own.iterrows()
    )
    return Table(f"Against {reference}", header, rows, text_columns=3)


def _ranking(section: LeaderboardSection) -> Table:
    metrics = section.metrics("ranking")
    columns = ("system", *(metric.label for metric in metrics), "latency p50, ms", "latency p95, ms")
    rows = [
        [
            _word(row["system"]),
            *(_figure(row, metric) for metric in metrics),
            *(_milliseconds(row[column]) for column in ("latency_p50_ms", "latency_p95_ms")),
        ]
        for _, row in section.by_system.iterrows()
    ]
    return Table("Finding a gold document", columns, _with_best(rows, range(1, len(metrics) + 1)))


def _coverage(section: LeaderboardSection) -> Table:
    others = [metric for metric in section.metrics("evidence") if metric.name != COVERAGE]
    return _by_budget("Answer coverage by evidence budget", section.by_budget, METRICS[COVERAGE], others)


def _by_budget(title: str, frame: pd.DataFrame, metric: Metric, others: Sequence[Metric] = ()) -> Table:
    """A line per system, a column per budget; of the other metrics one at the smallest."""
    budgets = sorted(frame["budget"].unique())
    further = [f"{other.label}, {budgets[0]} tokens" for other in others]
    columns = ("system", *(f"{budget} tokens" for budget in budgets), *further)
    rows = []
    for system, group in frame.groupby("system", sort=False):
        at = {row["budget"]: row for _, row in group.iterrows()}
        figures = [_figure(at.get(budget), metric) for budget in budgets]
        rows.append([_word(system), *figures, *(_figure(at.get(budgets[0]), other) for other in others)])
    return Table(title, columns, _with_best(rows, range(1, len(columns))))


def _readers(answered: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Readers that answered at several budgets, with their rows."""
    for reader, own in answered.groupby("reader", sort=False):
        if own["budget"].nunique() > 1:
            yield reader, own


def _answers(section: LeaderboardSection) -> Table:
    metrics = section.metrics("answer")
    judged = any(metric.name == "judged_correct" for metric in metrics)
    costs = {"cost, USD": "cost_usd"} | ({"judge, USD": "judge_cost_usd"} if judged else {})
    columns = ("system", "reader", "budget", "questions", *(m.label for m in metrics), "evidence tokens", *costs)
    rows = [
        [
            _word(row["system"]),
            _word(reader_label(row["reader"])),
            _count(row["budget"]),
            _count(row["n_questions"]),
            *(_figure(row, metric) for metric in metrics),
            _number(row["evidence_tokens"], "{:.0f}".format),
            *(_number(row[column], "{:.4f}".format) for column in costs.values()),
        ]
        for _, row in section.answered.iterrows()
    ]
    return Table("Answers", columns, _with_best(rows, range(4, 4 + len(metrics))), text_columns=2)


def _with_best(rows: Sequence[Sequence[Cell]], columns: Sequence[int]) -> tuple[tuple[Cell, ...], ...]:
    """Mark the highest value of each of these columns among the systems, floor and ceiling left out."""
    marked = [list(row) for row in rows]
    rivals = [row for row in marked if not in_family(row[0].text, "bound")]
    for column in columns:
        highest = max((value for row in rivals if isinstance(value := row[column].value, float)), default=None)
        for row in rivals:
            row[column] = replace(row[column], best=highest is not None and row[column].value == highest)
    return tuple(map(tuple, marked))


def _word(text: str) -> Cell:
    return Cell(text, value=text)


def _number(value: float | None, form: Callable[[float], str]) -> Cell:
    return Cell(MISSING) if value is None or pd.isna(value) else Cell(form(value), value=float(value))


def _count(value: float | None) -> Cell:
    return _number(value, "{:,.0f}".format)


def _milliseconds(value: float) -> Cell:
    return _number(value, lambda ms: f"{ms:,.0f}" if ms >= 10 else f"{ms:.1f}")


def _p_value(value: float | None) -> Cell:
    return _number(value, lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}")


def _figure(row: pd.Series | None, metric: Metric) -> Cell:
    """A metric's mean with its interval."""
    if row is None or pd.isna(row[metric.column]):
        return Cell(MISSING)
    low, high = row.get(f"{metric.column}_low"), row.get(f"{metric.column}_high")
    interval = "" if pd.isna(low) else f"{metric.text(low)}–{metric.text(high)}"
    return Cell(metric.text(row[metric.column]), interval, float(row[metric.column]))


def _points(row: pd.Series) -> Cell:
    low, high = row["low"], row["high"]
    interval = "" if pd.isna(low) else f"{100 * low:z.1f} to {100 * high:z.1f}"
    text = f"{100 * row['difference']:+z.1f}"
    return Cell(text, interval, float(row["difference"]), best=is_shown(row))
