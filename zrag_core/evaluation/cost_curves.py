"""Curves at equal cost: measures against evidence tokens and against US dollars, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from scipy.optimize import isotonic_regression

from zrag_core.evaluation.canvas import PALETTE, new_figure, percent_axis, png
from zrag_core.evaluation.leaderboard import ESTIMATED_COST, LIST_COST
from zrag_core.systems import SYSTEMS, in_family

TOKENS = "evidence_tokens"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_BOUND = "#555555"
_LABELS = {"answer_coverage": "answer stands in the evidence", "f1": "F1 of the answer", "em": "exact match"}
_DOLLARS = {
    LIST_COST: "answering model at list prices",
    ESTIMATED_COST: "estimated for the configured answering model at list prices",
}
_BAND = 0.12  # opacity


@dataclass(frozen=True, slots=True)
class Style:
    """Colour, marker and line of a system."""

    colour: str
    marker: str
    dashes: str
    bold: bool


def cost_curve(rows: pd.DataFrame, measure: str, cost: str, title: str) -> bytes:
    """Draw a measure against what it took, one line per system with its interval as a band.

    Args:
        rows: leaderboard rows, one per system and budget, with `measure`, its `_low` and `_high`, and `cost`.
        measure: answer_coverage, f1 or em.
        cost: `TOKENS`, mean evidence tokens handed over, or `LIST_COST` or `ESTIMATED_COST`, US dollars per 1,000
            questions.
        title: what was measured.

    Returns:
        a PNG. A system that took nothing (closed book: no evidence) is a level across the figure.
    """
    figure, axes = new_figure(8.6, 5.0)
    rows = rows.dropna(subset=[measure, cost])
    styles = system_styles(rows["system"].unique())
    ends: dict[str, float] = {}
    for name, style in styles.items():
        line = rows[rows["system"] == name].sort_values([cost, "budget"])
        ends[name] = _draw(axes, line, measure, cost, style)
    _cost_axis(axes, rows, cost)
    axes.set_ylabel(_LABELS[measure])
    axes.set_title(title, loc="left")
    percent_axis(axes, "y")
    axes.set_ylim(-0.02, 1.02)
    _name_lines(axes, ends, styles)
    return png(figure)


def system_styles(names: Sequence[str]) -> dict[str, Style]:
    """Colour, marker and line of each system; floor and ceiling are grey and dotted, memories are bold."""
    styles: dict[str, Style] = {}
    rivals = 0
    for name in names:
        if in_family(name, "bound"):
            marker = "x" if SYSTEMS[name].evidence == "nothing" else "*"
            styles[name] = Style(_BOUND, marker, ":", bold=False)
            continue
        cycle, place = divmod(rivals, len(PALETTE))
        marker = _MARKERS[(place + cycle) % len(_MARKERS)]
        system = name.partition(", ")[0]  # where several readers answered, the reader's name follows
        styles[name] = Style(PALETTE[place], marker, "--" if cycle else "-", bold=in_family(system, "memory"))
        rivals += 1
    return styles


def _draw(axes: Axes, line: pd.DataFrame, measure: str, cost: str, style: Style) -> float:
    """Draw one system and return the height at which its line ends."""
    x, y, low, high = (line[column].to_numpy(float) for column in (cost, measure, f"{measure}_low", f"{measure}_high"))
    known = ~np.isnan(low)
    if not x.any():
        axes.axhline(y[-1], color=style.colour, linestyle=style.dashes, linewidth=1.2)
    elif len(x) == 1:
        error = np.nan_to_num([y - low, high - y])
        axes.errorbar(x, y, yerr=error, color=style.colour, marker=style.marker, markersize=7, elinewidth=1, capsize=2)
    else:
        axes.fill_between(x, low, high, where=known, color=style.colour, alpha=_BAND, linewidth=0)
        width = 2.2 if style.bold else 1.4
        axes.plot(x, y, color=style.colour, marker=style.marker, linestyle=style.dashes, linewidth=width, markersize=6)
    return float(y[-1])


def _cost_axis(axes: Axes, rows: pd.DataFrame, cost: str) -> None:
    paid = rows.loc[rows[cost] > 0, cost]
    if cost in _DOLLARS:
        axes.set_xlim(0, 1.08 * paid.max())
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(f"US dollars per 1,000 questions, {_DOLLARS[cost]}")
        return
    budgets = sorted(rows["budget"].unique())
    least, most = min(paid.min(), budgets[0]), max(paid.max(), budgets[-1])
    below = [2**power for power in range(int(np.log2(budgets[0]))) if 2**power >= least]
    axes.set_xscale("log", base=2)
    axes.set_xlim(least / 1.25, most * 1.25)
    axes.xaxis.set_major_locator(FixedLocator([*below, *budgets]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.grid(axis="x", color="#EEEEEE", linewidth=0.8)
    of = f"budgets of {budgets[0]} to {budgets[-1]}" if len(budgets) > 1 else f"a budget of {budgets[0]}"
    axes.set_xlabel(f"evidence tokens handed over (UTF-8 bytes / 4), mean at {of}")


def _name_lines(axes: Axes, ends: dict[str, float], styles: dict[str, Style]) -> None:
    """Names stand to the right of the data, as high as their lines end, instead of in a legend."""
    beside = axes.get_yaxis_transform()  # x in shares of the axes' width, y in data
    for (name, end), height in zip(ends.items(), _spread_out(list(ends.values()), gap=0.05), strict=True):
        style = styles[name]
        axes.plot(1.02, height, transform=beside, color=style.colour, marker=style.marker, markersize=6, clip_on=False)
        axes.text(
            1.035,
            height,
            f"{name}  {100 * end:.0f}%",
            transform=beside,
            color=style.colour,
            va="center",
            fontweight="bold" if style.bold else "normal",
        )


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
