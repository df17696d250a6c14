"""What every benchmark hands over: rows of the table `benchmarks`, what is shown of them, and figures for MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from zrag_core.corpus.almanac.names import Language
from zrag_core.settings import BenchmarkSettings

Figures = Iterable[tuple[str, str, float]]
"""(system, metric, value); the system is "memory" for what is no system's own."""


@dataclass(frozen=True)
class Measurement:
    """A benchmark's figures.

    Attributes:
        rows: of the table `benchmarks` (system, metric, value, unit and, where there are any, n_documents).
        shown: a table for the asset's page.
        metrics, params: for the MLflow run.
        tables, plots: artifacts of it, by name; plots as PNG.
    """

    rows: pd.DataFrame
    shown: pd.DataFrame
    metrics: Mapping[str, float]
    params: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    plots: Mapping[str, bytes] = field(default_factory=dict)


def measure_almanacs(
    settings: BenchmarkSettings, measure: Callable[[Language, int, int], Figures], log: Callable[[str], None]
) -> pd.DataFrame:
    """Measure every almanac of the settings.

    Args:
        measure: of language, number of documents and seed.

    Returns:
        rows (language, n_documents, seed, system, metric, value).
    """
    rows: list[dict[str, object]] = []
    for language in settings.languages:
        for n in settings.documents:
            for seed in settings.seeds:
                found = list(measure(language, n, seed))
                keys = {"language": language, "n_documents": n, "seed": seed}
                rows += [{**keys, "system": system, "metric": name, "value": value} for system, name, value in found]
                log(f"{language} N={n} seed {seed}  " + "  ".join(f"{s}/{m} {v:.3f}" for s, m, v in found))
    return pd.DataFrame(rows)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean, worst and best over seeds of every figure (what is worst depends on the figure: both ends are given)."""
    groups = frame.groupby(["language", "n_documents", "system", "metric"], sort=False)["value"]
    return groups.agg(mean="mean", lowest="min", highest="max", seeds="count").reset_index()


def seed_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table `benchmarks`: one for each figure and seed."""
    named = frame.assign(
        metric=frame["language"] + "/" + frame["seed"].astype(str) + "/" + frame["metric"],
        unit=frame["metric"].map(_unit),
    )
    return named[["system", "n_documents", "metric", "value", "unit"]]


def figure_names(frame: pd.DataFrame) -> list[str]:
    """The name in MLflow of each row of a `summary`."""
    return [f"{row.language}/{row.n_documents}/{row.system}/{row.metric}" for row in frame.itertuples()]


def _unit(metric: str) -> str:
    if metric.endswith("_per_s"):
        return "documents/s"
    if metric.endswith("_seconds"):
        return "s"
    return "count" if metric.endswith("_count") else "share"
