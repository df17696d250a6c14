"""Plots of the leaderboard as PNG bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy.optimize import isotonic_regression

from zrag_core.evaluation.figures import INK, PALETTE, new_figure, percent_axis, png
from zrag_core.evaluation.report import LeaderboardSection, leaderboard_sections, reader_label

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_REFERENCES = {"closed_book": ("#555555", "x"), "gold_evidence": ("#555555", "*")}
# One hue in three strengths for ranks, two hues for coverage and F1.
_RANK_COLOURS = ("#2166AC", "#6AA6D8", "#C2DBF0")
_ANSWER_COLOURS = ("#0072B2", "#E69F00")


def leaderboard_plots(frame: pd.DataFrame, split: str, *, systems: Sequence[str] = ()) -> dict[str, bytes]:
    """Draw the leaderboard of one split, all question types together.

    Args:
        frame: as returned by `leaderboard.aggregate`, of one corpus version.
        split: which split.
        systems: their order; left out, the order of appearance.

    Returns:
        File name to PNG: `coverage_curve.png`, `recall.png` and `answers.png`; what has no values in
        the frame is left out.

    Raises:
        ValueError: the split is not in the frame, or stands there for several corpus versions.
    """
    sections = [s for s in leaderboard_sections(frame, systems) if s.split == split and s.question_type == "all"]
    if len(sections) != 1:
        raise ValueError(f"split '{split}' stands in the leaderboard {len(sections)} times, once is needed")
    section = sections[0]
    drawings: dict[str, tuple[bool, Callable[[LeaderboardSection], bytes]]] = {
        "coverage_curve.png": (section.by_budget["answer_coverage"].notna().any(), coverage_curve),
        "recall.png": (section.by_system["recall_at_1"].notna().any(), recall_bars),
        "answers.png": (not section.answered.empty, answer_bars),
    }
    return {name: draw(section) for name, (has_values, draw) in drawings.items() if has_values}


def coverage_curve(section: LeaderboardSection) -> bytes:
    """Answer coverage against the evidence budget, one line per system with interval bars."""
    figure, axes = new_figure(8.6, 5.0)
    rows = section.by_budget.dropna(subset=["answer_coverage"])
    names = list(dict.fromkeys(rows["system"]))
    styles = _styles(names)
    last: dict[str, float] = {}
    for position, name in enumerate(names):
        line = rows[rows["system"] == name].sort_values("budget")
        colour, marker, dashes = styles[name]
        # Lines are moved apart a little on the logarithmic axis, so that their bars do not overlap.
        shift = 2 ** ((position - (len(names) - 1) / 2) * 0.035)
        axes.errorbar(
            line["budget"] * shift,
            line["answer_coverage"],
            yerr=_error(line, "answer_coverage"),
            color=colour,
            marker=marker,
            linestyle=dashes,
            linewidth=2.2 if name.startswith("zrag") else 1.4,
            markersize=6,
            elinewidth=1,
            capsize=2,
        )
        last[name] = float(line["answer_coverage"].iloc[-1])
    budgets = section.budgets
    axes.set_xscale("log", base=2)
    axes.set_xlim(budgets[0] / 1.25, budgets[-1] * 1.25)
    axes.xaxis.set_major_locator(FixedLocator(budgets))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.set_xlabel("evidence budget, tokens (UTF-8 bytes / 4)")
    axes.set_ylabel("answer stands in the evidence")
    axes.set_title(f"Answer coverage by evidence budget  ({section.title})", loc="left")
    percent_axis(axes, "y")
    axes.set_ylim(-0.02, 1.02)
    beside = axes.get_yaxis_transform()  # x in shares of the axes' width, y in data
    for name, height in zip(last, _spread_out(list(last.values()), gap=0.05), strict=True):
        # Names stand at the ends of their lines, to the right of the data, instead of in a legend.
        colour, marker, _ = styles[name]
        axes.plot(1.02, height, transform=beside, color=colour, marker=marker, markersize=6, clip_on=False)
        axes.text(
            1.035,
            height,
            f"{name}  {100 * last[name]:.0f}%",
            transform=beside,
            color=colour,
            va="center",
            fontweight="bold" if name.startswith("zrag") else "normal",
        )
    return png(figure)


def recall_bars(section: LeaderboardSection) -> bytes:
    """Recall of a gold document at ranks 1, 5 and 10, one group of bars per system."""
    measures = {"recall@1": "recall_at_1", "recall@5": "recall_at_5", "recall@10": "recall_at_10"}
    rows = section.by_system.dropna(subset=["recall_at_1"])
    return _grouped_bars(
        rows, measures, _RANK_COLOURS, f"A gold document among the first  ({section.title})", "share of questions"
    )


def answer_bars(section: LeaderboardSection) -> bytes:
    """Answer coverage of the evidence and F1 of the answer, one group of bars per system and reader."""
    rows = section.answered.copy()
    readers, budgets = rows["reader"].unique(), rows["budget"].unique()
    if len(readers) > 1:
        rows["system"] = rows["system"] + ", " + rows["reader"]
    if len(budgets) > 1:
        rows["system"] = rows["system"] + ", " + rows["budget"].astype(str)
    reader = f"reader: {reader_label(readers[0])}" if len(readers) == 1 else "by reader"
    budget = f"{budgets[0]} tokens" if len(budgets) == 1 else "by budget"
    measures = {"answer stands in the evidence": "answer_coverage", "F1 of the answer": "f1"}
    title = f"Evidence and answers, {budget}, {reader}\n({section.title})"
    return _grouped_bars(rows, measures, _ANSWER_COLOURS, title, "mean over questions")


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


def _styles(names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Colour, marker and line of each system; references are grey and dotted."""
    styles: dict[str, tuple[str, str, str]] = {}
    drawn = [name for name in names if name not in _REFERENCES]
    for position, name in enumerate(drawn):
        cycle, place = divmod(position, len(PALETTE))
        styles[name] = (PALETTE[place], _MARKERS[(place + cycle) % len(_MARKERS)], "--" if cycle else "-")
    return {**styles, **{name: (*_REFERENCES[name], ":") for name in names if name in _REFERENCES}}


def _error(rows: pd.DataFrame, measure: str) -> np.ndarray:
    """Distances from the mean down and up to its interval, [2, rows]; zero where there is none."""
    low, mean, high = (rows[column].to_numpy(dtype=float) for column in (f"{measure}_low", measure, f"{measure}_high"))
    return np.nan_to_num(np.clip([mean - low, high - mean], 0, None))


def _spread_out(heights: Sequence[float], gap: float) -> list[float]:
    """Heights of labels at least `gap` apart, in the same order and as near to `heights` as can be."""
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    # Least squares under "each at least `gap` above the one below" is isotonic regression.
    placed = isotonic_regression(np.array(heights, dtype=float)[order] - steps).x
    placed = np.clip(placed, 0, max(0.0, 1 - steps[-1])) + steps
    result = np.empty(len(heights))
    result[order] = placed
    return result.tolist()
