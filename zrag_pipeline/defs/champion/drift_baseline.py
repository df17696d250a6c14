"""Where the memory of a corpus stood after the last run that made everything afresh: table `drift_baselines`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zrag_pipeline.platform.warehouse import Warehouse


@dataclass(frozen=True)
class MemoryState:
    """Where a memory stands; drift is the way from its state after the last run that made everything afresh.

    Attributes:
        corpus, corpus_version: name and version of what it holds.
        margin: mean difference of log P of the first and the second routed document, on a fixed sample of questions.
        coverage: constrained coverage on the same questions. Both are None where no question could be asked.
    """

    corpus: str
    corpus_version: str
    margin: float | None
    coverage: float | None


def load_baseline(warehouse: Warehouse, corpus: str) -> MemoryState | None:
    """The baseline of a corpus, whatever other corpora have run since; None before the first."""
    found = warehouse.query(
        "SELECT corpus_version, routing_margin, probe_coverage FROM drift_baselines WHERE corpus = ?", [corpus]
    )
    if found.empty:
        return None
    version, margin, coverage = found.iloc[0]
    return MemoryState(corpus, version, _known(margin), _known(coverage))


def save_baseline(warehouse: Warehouse, state: MemoryState, run_id: str) -> None:
    """Make a state the baseline of its corpus."""
    row = {
        "run_id": run_id,
        "corpus_version": state.corpus_version,
        "routing_margin": state.margin,
        "probe_coverage": state.coverage,
    }
    warehouse.replace_rows("drift_baselines", [row], {"corpus": state.corpus})


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
