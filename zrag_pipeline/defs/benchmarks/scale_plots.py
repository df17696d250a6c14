"""Plots of the job `benchmark`: milliseconds and bytes by the number of documents."""

from __future__ import annotations

import io

import pandas as pd


def scale_plots(frame: pd.DataFrame) -> dict[str, bytes]:
    """PNG files by name.

    Args:
        frame: rows (system, n_documents, metric, value).
    """
    return {
        "scoring.png": _by_documents(frame, "scoring_p50", "ms to score all documents, one question"),
        "query.png": _by_documents(frame, "query_p50", "ms of a whole question"),
        "bytes.png": _by_documents(frame, "bytes_per_document", "bytes per document"),
    }


def _by_documents(frame: pd.DataFrame, metric: str, label: str) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for system, own in frame[frame["metric"] == metric].groupby("system", sort=False):
        own = own.sort_values("n_documents")
        mine = str(system).startswith("zrag")
        axes.plot(own["n_documents"], own["value"], marker="o", label=str(system), linewidth=2.5 if mine else 1.2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("documents")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
