"""Leaderboard and comparisons as tables whose cells know their number, for sorting and for marking the best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from zrag_core.evaluation.leaderboard import ALL_TYPES
from zrag_core.evaluation.report import MISSING, LeaderboardSection, reader_label

REFERENCES = frozenset({"closed_book", "gold_evidence"})


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: what is shown.
        interval: shown small beside it; "" for none.
        value: what the column is sorted by; None sorts last.
        best: whether it is the best of its column.
    """

    text: str
    interval: str = ""
    value: float | str | None = None
    best: bool = False


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


def leaderboard_tables(section: LeaderboardSection) -> TableGroup:
    """Ranking, coverage by budget and, where there are any, answers of one section, in percent."""
    tables = [_ranking(section), _coverage(section)]
    if not section.answered.empty:
        tables.append(_answers(section))
    return TableGroup(section.title, section.question_type == ALL_TYPES, tuple(tables))


def comparison_tables(frame: pd.DataFrame) -> Iterator[TableGroup]:
    """The table `comparisons`, a group for each split and question type.

    Args:
        frame: columns split, question_type, budget, reader, measure, system, reference, difference, low and high
            (shares), p_adjusted, mcnemar_p, n_questions, n_documents and verdict; it may be empty.
    """
    if frame.empty:
        return
    for (split, kind), group in frame.groupby(["split", "question_type"], sort=False):
        title = split if kind == ALL_TYPES else f"{split}, {kind}"
        columns = (
            "system",
            "against",
            "measure",
            "budget",
            "verdict",
            "difference, points",
            "p, corrected",
            "p, McNemar",
            "questions",
            "documents",
        )
        rows = tuple(
            (
                _word(row["system"]),
                _word(row["reference"]),
                _word(row["measure"]),
                _count(row["budget"]),
                _word(row["verdict"]),
                _points(row),
                _p_value(row["p_adjusted"]),
                _p_value(row["mcnemar_p"]),
                _count(row["n_questions"]),
                _count(row["n_documents"]),
            )
            for _, row in group.iterrows()
        )
        yield TableGroup(title, kind == ALL_TYPES, (Table("Paired differences", columns, rows, text_columns=5),))


def _ranking(section: LeaderboardSection) -> Table:
    both = [("both @10", "recall_all_at_10")] if section.two_hop else []
    measures = [("recall@1", "recall_at_1"), ("recall@5", "recall_at_5"), ("recall@10", "recall_at_10"), *both]
    measures.append(("MRR", "mrr"))
    columns = ("system", *(name for name, _ in measures), "latency p50, ms", "latency p95, ms")
    rows = [
        [
            _word(row["system"]),
            *(_share(row, column) for _, column in measures),
            *(_milliseconds(row[column]) for column in ("latency_p50_ms", "latency_p95_ms")),
        ]
        for _, row in section.by_system.iterrows()
    ]
    return Table("Finding a gold document", columns, _with_best(rows, range(1, len(measures) + 1)))


def _coverage(section: LeaderboardSection) -> Table:
    budgets = section.budgets
    columns = ("system", *(f"{budget} tokens" for budget in budgets), f"ROUGE-L, {budgets[0]} tokens")
    rows = []
    for system, group in section.by_budget.groupby("system", sort=False):
        at = {row["budget"]: row for _, row in group.iterrows()}
        cells = [_share(at.get(budget), "answer_coverage") for budget in budgets]
        rows.append([_word(system), *cells, _share(at.get(budgets[0]), "rouge_l")])
    return Table("Answer coverage by evidence budget", columns, _with_best(rows, range(1, len(columns))))


def _answers(section: LeaderboardSection) -> Table:
    judged = "judged_correct" in section.answered and section.answered["judged_correct"].notna().any()
    shares = {"EM": "em", "F1": "f1"} | ({"judged correct": "judged_correct"} if judged else {})
    costs = {"cost, USD": "cost_usd"} | ({"judge, USD": "judge_cost_usd"} if judged else {})
    columns = ("system", "reader", "budget", "questions", *shares, "evidence tokens", *costs)
    rows = [
        [
            _word(row["system"]),
            _word(reader_label(row["reader"])),
            _count(row["budget"]),
            _count(row["n_questions"]),
            *(_share(row, column) for column in shares.values()),
            _number(row["evidence_tokens"], "{:.0f}".format),
            *(_number(row[column], "{:.4f}".format) for column in costs.values()),
        ]
        for _, row in section.answered.iterrows()
    ]
    return Table("Answers", columns, _with_best(rows, range(4, 4 + len(shares))), text_columns=2)


def _with_best(rows: Sequence[Sequence[Cell]], columns: Sequence[int]) -> tuple[tuple[Cell, ...], ...]:
    """Mark the highest value of each of these columns among the systems that are not references."""
    marked = [list(row) for row in rows]
    for column in columns:
        rivals = [row for row in marked if row[0].value not in REFERENCES and row[column].value is not None]
        highest = max((row[column].value for row in rivals), default=None)
        for row in rivals:
            row[column] = replace(row[column], best=row[column].value == highest)
    return tuple(map(tuple, marked))


def _word(text: str) -> Cell:
    return Cell(text, value=text)


def _number(value: float | None, form: Callable[[float], str]) -> Cell:
    return Cell(MISSING) if pd.isna(value) else Cell(form(value), value=float(value))


def _count(value: float | None) -> Cell:
    return _number(value, "{:,.0f}".format)


def _milliseconds(value: float) -> Cell:
    return _number(value, lambda ms: f"{ms:,.0f}" if ms >= 10 else f"{ms:.1f}")


def _p_value(value: float | None) -> Cell:
    return _number(value, lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}")


def _share(row: pd.Series | None, measure: str) -> Cell:
    """A percentage with its interval."""
    if row is None or pd.isna(row[measure]):
        return Cell(MISSING)
    low, high = row.get(f"{measure}_low"), row.get(f"{measure}_high")
    interval = "" if pd.isna(low) else f"{100 * low:.1f}–{100 * high:.1f}"
    return Cell(f"{100 * row[measure]:.1f}", interval, float(row[measure]))


def _points(row: pd.Series) -> Cell:
    low, high = row["low"], row["high"]
    interval = "" if pd.isna(low) else f"{100 * low:z.1f} to {100 * high:z.1f}"
    return Cell(f"{100 * row['difference']:+z.1f}", interval, float(row["difference"]))
