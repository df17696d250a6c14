"""Plots of the memory checks as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from zrag_core.evaluation.canvas import INK, PALETTE, new_figure, percent_axis, png
from zrag_core.model.checks.catalog import MEMORY_CHECKS
from zrag_core.model.checks.check_spec import Sweep

_COLOUR = PALETTE[1]
_LIMIT = PALETTE[0]


def memory_plots(checks: pd.DataFrame, nll: np.ndarray | None, title: str) -> dict[str, bytes]:
    """Draw the memory checks of one checkpoint.

    Args:
        checks: rows of the table `memory_checks` (check_name, parameter, value, threshold).
        nll: [n, n] nats per token of document i given z_j; None where that was not measured.
        title: which checkpoint, in ASCII.

    Returns:
        File name to PNG: `confusion.png`, `slots_read.png` and one by the name of each sweep; what was not measured
        is left out.
    """
    plots = {"confusion.png": confusion_matrix(nll, title)} if nll is not None and len(nll) > 1 else {}
    if checks["check_name"].isin(_bars()).any():
        plots["slots_read.png"] = slots_read(checks, title)
    for check in MEMORY_CHECKS.values():
        rows = checks[checks["check_name"] == check.name].sort_values("parameter")
        if check.sweep and len(rows):
            plots[f"{check.name}.png"] = sweep(check.sweep, rows["parameter"].tolist(), rows["value"].tolist(), title)
    return plots


def confusion_matrix(nll: np.ndarray, title: str) -> bytes:
    """How much worse z_j explains document i than the best slots do; a knowing memory is dark on its diagonal."""
    excess = nll - nll.min(axis=1, keepdims=True)
    own = int((nll.argmin(axis=1) == np.arange(len(nll))).sum())
    figure, axes = new_figure(6.6, 5.6)
    # The largest values say nothing but "very wrong"; up to the 95th percentile the colours differ.
    image = axes.imshow(excess, cmap="magma", vmin=0, vmax=max(float(np.quantile(excess, 0.95)), 1e-6))
    axes.spines[:].set_visible(False)
    axes.set_xlabel("slots z of document j")
    axes.set_ylabel("text of document i")
    axes.set_title(f"Own slots explain {own} of {len(nll)} documents best  ({title})", loc="left")
    figure.colorbar(image, ax=axes, label="nats per token above the best slots", extend="max", shrink=0.85)
    return png(figure)


def slots_read(checks: pd.DataFrame, title: str) -> bytes:
    """Coverage by whose slots were read for a question, with thresholds as strokes."""
    rows = checks.drop_duplicates("check_name").set_index("check_name")
    bars = _bars()
    names = [name for name in bars if name in rows.index]
    values = rows.loc[names, "value"].astype(float).tolist()
    limits = rows.loc[names, "threshold"].astype(float).tolist()
    figure, axes = new_figure(7.6, 1.4 + 0.62 * len(names))
    places = range(len(names))
    axes.barh(places, values, height=0.62, color=_COLOUR)
    for place, value, limit in zip(places, values, limits, strict=True):
        text = f"{100 * value:.0f}%"
        if not np.isnan(limit):
            axes.plot([limit, limit], [place - 0.42, place + 0.42], color=_LIMIT, linewidth=2.4)
            text += f"  (threshold {100 * limit:.0f}%)"
        # Figures stand to the right of the data, where no bar or stroke crosses them.
        axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center", color=INK)
    axes.set_yticks(places, [bars[name] for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("answer stands in the free evidence")
    axes.set_title(f"Which slots are read  ({title})", loc="left")
    percent_axis(axes, "x")
    axes.set_xlim(0, 1.02)
    return png(figure)


def sweep(drawn: Sweep, parameters: Sequence[float], values: Sequence[float], title: str) -> bytes:
    """Coverage of free evidence against one parameter, ascending; every point carries its figure."""
    figure, axes = new_figure(6.6, 3.8)
    axes.plot(parameters, values, color=_COLOUR, marker="o", markersize=7, linewidth=2.2)
    for x, y in zip(parameters, values, strict=True):
        axes.annotate(f"{100 * y:.0f}%", xy=(x, y), xytext=(0, 9), textcoords="offset points", ha="center", color=INK)
    if drawn.logarithmic:
        axes.set_xscale("log", base=2)
        axes.set_xlim(parameters[0] / 1.3, parameters[-1] * 1.3)
    axes.xaxis.set_major_locator(FixedLocator(parameters))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel(drawn.axis)
    axes.set_ylabel("answer stands in the free evidence")
    axes.set_title(f"{drawn.title}  ({title})", loc="left")
    percent_axis(axes, "y")
    axes.set_ylim(-0.02, 1.12)
    return png(figure)


def _bars() -> dict[str, str]:
    """Labels of the bars by figure."""
    return {figure.name: figure.bar for check in MEMORY_CHECKS.values() for figure in check.figures if figure.bar}
