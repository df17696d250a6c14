"""What an update did to the memory, proven, and whether the corpus has drifted so far that all is made afresh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import dagster as dg

from zrag_core.corpus.types import Document, Question
from zrag_core.errors import UnknownCorpusError
from zrag_core.model.checks.catalog import UPDATE_CHECKS, checks_wanted, judged_figures
from zrag_core.model.checks.check_spec import MemoryCheck
from zrag_core.model.checks.probe import Probe
from zrag_core.model.checks.runner import run_checks
from zrag_core.model.checks.update_checks import UpdateProbe, drift_figures
from zrag_core.model.store.checkpoint import Checkpoint, load_checkpoint
from zrag_core.model.store.update import CorpusChange, compare_documents
from zrag_core.settings import Settings, UpdateSettings
from zrag_pipeline.defs.champion.drift_baseline import MemoryState, load_baseline
from zrag_pipeline.defs.memory.separated_memory import proof_base
from zrag_pipeline.platform.handles import CheckpointReference, MemoryHandle
from zrag_pipeline.platform.warehouse import Warehouse


@dataclass(frozen=True)
class UpdateReport:
    """A checkpoint beside the last one that a run has checked.

    Attributes:
        former: the checkpoint that it is held against; None where it was written afresh or nothing has changed.
        change: since that one.
        checks: rows of `memory_checks`: the proofs, where there was an update, and the figures of drift.
        baseline, state: after the last full run on this corpus, and now; the same where this is one.
        share_changed: share of the corpus changed since the baseline.
        retrain_reasons: why everything should be made afresh; empty where nothing says so.
    """

    former: CheckpointReference | None
    change: CorpusChange | None
    checks: tuple[MemoryCheck, ...]
    baseline: MemoryState
    state: MemoryState
    share_changed: float
    retrain_reasons: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Documents by what happened to them."""
        if self.change is None:
            return dict.fromkeys(("added", "changed", "removed", "unchanged"), 0)
        return {name: len(ids) for name, ids in asdict(self.change).items()}

    @property
    def metrics(self) -> dict[str, float | None]:
        """Figures for MLflow."""
        figures = {check.check_name: check.value for check in self.checks}
        return {**figures, "share_changed": self.share_changed, **self.counts}


def report_update(
    handle: MemoryHandle, settings: Settings, warehouse: Warehouse, log: Callable[[str], None]
) -> UpdateReport:
    """Check a checkpoint against its former one, and measure drift.

    Args:
        handle: of the asset `memory`, with a checkpoint.
    """
    import torch

    torch.set_num_threads(settings.backbone.cpu_threads)
    assert handle.checkpoint is not None
    checkpoint = _load(handle.checkpoint, settings)
    corpus = warehouse.load_corpus(handle.corpus_version)
    former = proof_base(handle, corpus.name)
    size: dict[str, Any] = {"limit": settings.updates.old_sample, "batch_size": settings.decoding.batch_size}
    change: CorpusChange | None = None
    if former is None:
        every = settings.evaluation.memory_checks == "all"
        checks = tuple(drift_figures(Probe(checkpoint, corpus.questions, **size))) if every else ()
    else:
        before = _load(former, settings)
        change = compare_documents(before.documents, checkpoint.documents)
        asked = _questions(warehouse, former.corpus_version)
        wanted = checks_wanted(UPDATE_CHECKS, settings.evaluation.memory_checks)
        checks = run_checks(wanted, UpdateProbe(before, checkpoint, asked, corpus.questions, **size), log)
    figures = {check.check_name: check.value for check in checks}
    state = MemoryState(
        corpus.name, handle.corpus_version, figures.get("routing_margin"), figures.get("probe_coverage")
    )
    baseline = None if handle.former is None else load_baseline(warehouse, corpus.name)
    share, reasons = 0.0, []
    if baseline is not None:
        share = _share_changed(warehouse, baseline, checkpoint.documents)
        reasons = retrain_reasons(share, state, baseline, settings.updates)
    return UpdateReport(former, change, checks, baseline or state, state, share, tuple(reasons))


def retrain_reasons(
    share_changed: float, state: MemoryState, baseline: MemoryState, settings: UpdateSettings
) -> list[str]:
    """Why a full run should follow, in plain words; empty where no threshold is passed."""
    reasons = []
    if share_changed > settings.retrain_share:
        reasons.append(
            f"{share_changed:.0%} of the corpus changed since the last full run "
            f"(threshold {settings.retrain_share:.0%})"
        )
    if state.margin is not None and baseline.margin is not None:
        least = settings.least_margin_share * baseline.margin
        if state.margin < least:
            reasons.append(
                f"the routing margin fell from {baseline.margin:.2f} to {state.margin:.2f} (least {least:.2f})"
            )
    if state.coverage is not None and baseline.coverage is not None:
        least = baseline.coverage - settings.coverage_drop
        if state.coverage < least:
            reasons.append(
                f"coverage on the probe questions fell from {baseline.coverage:.1%} to {state.coverage:.1%} "
                f"(least {least:.1%})"
            )
    return reasons


def checks_markdown(checks: Sequence[MemoryCheck]) -> str:
    """The figures as a list, for the asset's page."""
    verdicts = {True: " passed", False: " **failed**", None: ""}
    lines = [f"- {check.check_name}: {check.value:.3f}{verdicts[check.passed]}" for check in checks]
    return "\n".join(lines) or "nothing to measure"


def check_results(checks: Sequence[MemoryCheck]) -> list[dg.AssetCheckResult]:
    """One result for each proof; what was not measured passes, and says so."""
    results = []
    for name, figure in judged_figures(UPDATE_CHECKS).items():
        threshold = figure.threshold
        assert threshold is not None, name
        found = [check for check in checks if check.check_name == name and check.passed is not None]
        results.append(
            dg.AssetCheckResult(
                check_name=name,
                passed=all(check.passed for check in found),
                severity=dg.AssetCheckSeverity.ERROR if threshold.gates else dg.AssetCheckSeverity.WARN,
                metadata={
                    label: value
                    for check in found
                    for label, value in (("value", check.value), ("threshold", check.threshold))
                    if value is not None
                },
                description=threshold.reason if found else "nothing to measure it on",
            )
        )
    return results


def _questions(warehouse: Warehouse, version: str) -> tuple[Question, ...]:
    try:
        return warehouse.load_corpus(version).questions
    except UnknownCorpusError:  # made by `zrag add` or `zrag remove`, or removed since: no run has read that corpus
        return ()


def _load(made: CheckpointReference, settings: Settings) -> Checkpoint:
    """A checkpoint, to be read as this run's systems read."""
    loaded = load_checkpoint(made.folder, device=settings.backbone.device)
    return replace(loaded, settings=loaded.settings.model_copy(update={"decoding": settings.decoding}))


def _share_changed(warehouse: Warehouse, baseline: MemoryState, documents: Sequence[Document]) -> float:
    try:
        before = warehouse.load_corpus(baseline.corpus_version).documents
    except UnknownCorpusError:  # that corpus was removed from the warehouse: nothing of it is known
        return 1.0
    return compare_documents(before, documents).share
