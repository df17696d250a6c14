"""Training curves as a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


def training_curves(steps: Sequence[int], losses: Sequence[Mapping[str, float]]) -> bytes:
    """Draw running mean losses against optimiser steps, one panel per loss.

    Args:
        steps: step of each point.
        losses: name -> nats (per token; routing: per query), aligned with `steps`.
    """
    names = list(losses[0])
    drawing = Figure(figsize=(3.4 * len(names), 2.8), dpi=150, layout="constrained")
    for panel, name in enumerate(names, 1):
        axes = drawing.add_subplot(1, len(names), panel)
        axes.plot(steps, [point[name] for point in losses], color="#0072B2", linewidth=2)
        axes.set_yscale("log")
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xlabel("step")
        axes.grid(True, axis="y", color="#DDDDDD")
        axes.spines[["top", "right"]].set_visible(False)
        if panel == 1:
            axes.set_ylabel("loss, nats")
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return buffer.getvalue()
