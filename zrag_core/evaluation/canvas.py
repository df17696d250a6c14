"""The canvas of all figures: axes in percent, colours, and PNG bytes.

matplotlib's figures are built directly on the Agg canvas, so no global state is touched and any
thread or process may draw. Labels are English, since Korean fonts may be missing.
"""

from __future__ import annotations

import io
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, PercentFormatter

# Okabe and Ito's palette, told apart with any colour vision; its yellow is too faint on white.
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288")
INK = "#222222"
_DPI = 120


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of `width` by `height` inches with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def percent_axis(axes: Axes, which: Literal["x", "y"]) -> None:
    """Label the axis `which` ("x" or "y"), whose values are shares, in percent, with grid lines."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]))
    axis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.grid(axis=which, color="#DDDDDD", linewidth=0.8)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
