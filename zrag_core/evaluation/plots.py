"""Plots of the leaderboard as PNG bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from zrag_core.evaluation.canvas import INK, new_figure, percent_axis, png
from zrag_core.evaluation.cost_curves import TOKENS, cost_curve
from zrag_core.evaluation.leaderboard import ALL_TYPES, ESTIMATED_COST, LIST_COST
from zrag_core.evaluation.leaderboard_report import LeaderboardSection, leaderboard_sections, reader_label

# One hue in three strengths for ranks, two hues for coverage and F1.
_RANK_COLOURS = ("#2166AC", "#6AA6D8", "#C2DBF0")
_ANSWER_COLOURS = ("#0072B2", "#E69F00")
_TYPE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def leaderboard_plots(
    frame: pd.DataFrame, split: str, *, systems: Sequence[str] = (), budget: int | None = None
) -> dict[str, bytes]:
    """Draw the leaderboard of one split.

    Args:
        frame: as returned by `leaderboard.aggregate`, of one corpus version; with a column `usd_per_1000` (US dollars
            per 1,000 questions answered) also the curves against it, where anything was paid; where nothing was, with
            `estimated_usd_per_1000`, the curve of coverage, which depends on no answer.
        split: which split.
        systems: their order; left out, the order of appearance.
        budget: evidence tokens at which question types are compared; left out, the largest.

    Returns:
        File name to PNG: `coverage_curve.png`, `recall.png`, `answers.png`, `f1_curve.png`, `coverage_cost.png`,
        `f1_cost.png` and `question_types.png`; what has no values in the frame is left out.

    Raises:
        ValueError: the split is not in the frame, or stands there for several corpus versions.
    """
    sections = [s for s in leaderboard_sections(frame, systems) if s.split == split]
    totals = [section for section in sections if section.question_type == ALL_TYPES]
    if len(totals) != 1:
        raise ValueError(f"split '{split}' stands in the leaderboard {len(totals)} times, once is needed")
    total, types = totals[0], [section for section in sections if section.question_type != ALL_TYPES]
    answered, whose = _by_reader(total.answered)
    paid, estimated = (cost in answered and bool((answered[cost] > 0).any()) for cost in (LIST_COST, ESTIMATED_COST))
    dollars = LIST_COST if paid or not estimated else ESTIMATED_COST
    at = total.budgets[-1] if budget is None else budget
    # What is drawn, and whether there are values to draw.
    drawings: dict[str, tuple[bool, Callable[[], bytes]]] = {
        "coverage_curve.png": (
            total.by_budget["answer_coverage"].notna().any(),
            lambda: _curve(total.by_budget, "answer_coverage", TOKENS, total.title),
        ),
        "recall.png": (total.by_system["recall_at_1"].notna().any(), lambda: recall_bars(total)),
        "answers.png": (not answered.empty, lambda: answer_bars(total, budget)),
        "f1_curve.png": (not answered.empty, lambda: _curve(answered, "f1", TOKENS, f"{total.title}; {whose}")),
        "coverage_cost.png": (
            paid or estimated,
            lambda: _curve(answered, "answer_coverage", dollars, f"{total.title}; {whose}" if paid else total.title),
        ),
        "f1_cost.png": (paid, lambda: _curve(answered, "f1", LIST_COST, f"{total.title}; {whose}")),
        "question_types.png": (bool(types), lambda: type_bars(types, at)),
    }
    return {name: draw() for name, (has_values, draw) in drawings.items() if has_values}


def recall_bars(section: LeaderboardSection) -> bytes:
    """Recall of a gold document at ranks 1, 5 and 10, one group of bars per system."""
    measures = {"recall@1": "recall_at_1", "recall@5": "recall_at_5", "recall@10": "recall_at_10"}
    rows = section.by_system.dropna(subset=["recall_at_1"])
    return _grouped_bars(
        rows, measures, _RANK_COLOURS, f"A gold document among the first  ({section.title})", "share of questions"
    )


def answer_bars(section: LeaderboardSection, budget: int | None = None) -> bytes:
    """Answer coverage of the evidence and F1 of the answer, one group of bars per system and reader.

    Args:
        budget: which answers are shown; left out, and where none were given at it, those at every budget.
    """
    rows, whose = _by_reader(section.answered)
    rows = rows[rows["budget"] == budget] if (rows["budget"] == budget).any() else rows
    budgets = rows["budget"].unique()
    if len(budgets) > 1:
        rows = rows.assign(system=rows["system"] + ", " + rows["budget"].astype(str))
    tokens = f"{budgets[0]} tokens" if len(budgets) == 1 else "by budget"
    measures = {"answer stands in the evidence": "answer_coverage", "F1 of the answer": "f1"}
    title = f"Evidence and answers, {tokens}, {whose}\n({section.title})"
    return _grouped_bars(rows, measures, _ANSWER_COLOURS, title, "mean over questions")


def type_bars(sections: Sequence[LeaderboardSection], budget: int) -> bytes:
    """Answer coverage at one budget, one group of bars per system with a bar for each question type."""
    measures: dict[str, str] = {}
    columns: list[pd.DataFrame] = []
    for section in sections:
        kind = section.question_type
        measures[f"{kind} ({section.n_questions:,})"] = kind
        at = section.by_budget[section.by_budget["budget"] == budget].set_index("system")
        names = {f"answer_coverage{side}": f"{kind}{side}" for side in ("", "_low", "_high")}
        columns.append(at[list(names)].rename(columns=names))
    rows = pd.concat(columns, axis=1).reset_index(names="system")
    title = f"Answer coverage by type of question, {budget} tokens  ({sections[0].split})"
    return _grouped_bars(rows, measures, _TYPE_COLOURS, title, "answer stands in the evidence")


def _curve(rows: pd.DataFrame, measure: str, cost: str, what: str) -> bytes:
    name = {"answer_coverage": "Answer coverage", "f1": "F1"}[measure]
    by = {TOKENS: "evidence tokens"}.get(cost, "cost of answering")
    return cost_curve(rows, measure, cost, f"{name} by {by}\n({what})")


def _by_reader(answered: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Answered rows, systems named with their reader where there are several, and whose answers they are."""
    readers = answered["reader"].unique()
    if len(readers) < 2:
        return answered, "".join(f"reader: {reader_label(reader)}" for reader in readers)
    return answered.assign(system=answered["system"] + ", " + answered["reader"]), "by reader"


def _grouped_bars(
    rows: pd.DataFrame, measures: dict[str, str], colours: Sequence[str], title: str, label: str
) -> bytes:
    """Horizontal bars with interval bars; the first row and the first measure stand on top."""
    thickness = 0.8 / len(measures)
    figure, axes = new_figure(8.6, 1.5 + len(rows) * (0.18 * len(measures) + 0.16))
    base = np.arange(len(rows))
    for position, (name, column) in enumerate(measures.items()):
        offsets = base + (position - (len(measures) - 1) / 2) * thickness
        values = rows[column].to_numpy(dtype=float)
        error = _error(rows, column)
        axes.barh(
            offsets,
            np.nan_to_num(values),
            height=thickness * 0.92,
            color=colours[position],
            label=name,
            xerr=error,
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": INK},
        )
        for offset, value, reach in zip(offsets, values, error[1], strict=True):
            text = "no value" if np.isnan(value) else f"{100 * value:.1f}"
            axes.annotate(
                text,
                xy=(np.nan_to_num(value) + np.nan_to_num(reach), offset),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
            )
    axes.set_yticks(base, rows["system"])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.set_title(title, loc="left", pad=26)
    percent_axis(axes, "x")
    axes.set_xlim(0, 1.08)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(measures), frameon=False, borderaxespad=0.2)
    return png(figure)


def _error(rows: pd.DataFrame, measure: str) -> np.ndarray:
    """Distances from the mean down and up to its interval, [2, rows]; zero where there is none."""
    low, mean, high = (rows[column].to_numpy(dtype=float) for column in (f"{measure}_low", measure, f"{measure}_high"))
    reach: np.ndarray = np.nan_to_num(np.clip([mean - low, high - mean], 0, None))
    return reach
