"""The memory checks of every checkpoint on their way to people: rows, MLflow runs, Markdown and plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import dagster as dg
import pandas as pd

from zrag_core.corpus.types import Corpus
from zrag_core.model.checks.catalog import MEMORY_CHECKS, checks_wanted, judged_figures, threshold_of
from zrag_core.model.checks.check_spec import MemoryCheck
from zrag_core.model.checks.memory_plots import memory_plots
from zrag_core.model.checks.probe import Probe
from zrag_core.model.checks.runner import run_checks
from zrag_core.model.store.checkpoint import load_checkpoint
from zrag_core.settings import Settings
from zrag_pipeline.platform.asset_helpers import image
from zrag_pipeline.platform.handles import MemoryHandle, refuse_other_questions
from zrag_pipeline.platform.tracking import TrackedRun, Tracking


@dataclass(frozen=True)
class CheckedMemory:
    """One checkpoint and what its checks found.

    Attributes:
        policy: "separated" or "joint".
        checks: one row for each figure, columns as in the table `memory_checks`.
        plots: file name to PNG.
        n_questions: how many held-out questions were asked.
    """

    checkpoint_id: str
    policy: str
    params: dict[str, Any]
    checks: pd.DataFrame
    plots: dict[str, bytes]
    n_questions: int

    @property
    def metrics(self) -> dict[str, float]:
        """Figures by name; those of a sweep carry their parameter."""
        rows = self.checks.itertuples()
        return {_label(row.check_name, row.parameter, "_"): row.value for row in rows}


def check_memory(handle: MemoryHandle, corpus: Corpus, settings: Settings, log: Callable[[str], None]) -> CheckedMemory:
    """Load the checkpoint that a handle names and run all checks on it.

    Args:
        handle: of the assets `memory` or `joint_memory`, with a checkpoint.
        corpus: the checkpoint's, with the questions of today.
        log: called with a line for each check.

    Raises:
        CheckpointError: the checkpoint is damaged, or was made under other questions or splits.
    """
    import torch

    refuse_other_questions(corpus, handle, "checkpoint")
    torch.set_num_threads(settings.backbone.cpu_threads)
    assert handle.checkpoint is not None
    checkpoint = load_checkpoint(handle.checkpoint.folder, device=settings.backbone.device)
    decoded = checkpoint.settings.model_copy(update={"decoding": settings.decoding})
    checkpoint = replace(checkpoint, settings=decoded)  # as this run's systems decode
    policy = checkpoint.settings.memory.policy
    most = checkpoint.model.checked_questions
    limit = min(most, settings.evaluation.limit_questions or most)
    probe = Probe(checkpoint, corpus.questions, limit=limit, batch_size=settings.decoding.batch_size)
    wanted = checks_wanted(MEMORY_CHECKS, settings.evaluation.memory_checks)
    found = run_checks(wanted, probe, lambda line: log(f"{policy}: {line}"))
    checks = pd.DataFrame([asdict(check) for check in found], columns=list(MemoryCheck.__dataclass_fields__))
    plots = memory_plots(checks, probe.nll if "document_top1" in wanted else None, policy)
    return CheckedMemory(handle.checkpoint.checkpoint_id, policy, dict(handle.params), checks, plots, len(probe.asked))


def check_rows(memories: Sequence[CheckedMemory]) -> list[dict[str, Any]]:
    """Rows of the table `memory_checks`, without the run's id."""
    return [
        {"checkpoint_id": memory.checkpoint_id, **row}
        for memory in memories
        for row in memory.checks.to_dict("records")
    ]


def log_memories(tracking: Tracking, parent: TrackedRun, memories: Sequence[CheckedMemory]) -> None:
    """One child run per checkpoint: figures as metrics of the same names, the table and the plots as artifacts."""
    for memory in memories:
        params = {**memory.params, "checkpoint_id": memory.checkpoint_id, "n_questions": memory.n_questions}
        tags = {"zrag.checkpoint_id": memory.checkpoint_id}
        with tracking.child(parent, memory.policy, context_tags=tags, params=params) as child:
            child.log_metrics(memory.metrics)
            child.log_table(memory.checks, "memory_checks")
            for name, png in memory.plots.items():
                child.log_figure(png, f"plots/{name}")


def report_markdown(memories: Sequence[CheckedMemory]) -> str:
    """A table with a row for each figure and a column for each checkpoint."""
    if not memories:
        return "No memory was made, so there is nothing to check."
    head = [f"{memory.policy} ({memory.checkpoint_id}), {memory.n_questions} questions" for memory in memories]
    lines = ["| check | " + " | ".join(head) + " | threshold |", "|" + "---|" * (len(memories) + 2)]
    cells: dict[str, dict[int, str]] = {}
    thresholds: dict[str, str] = {}
    for column, memory in enumerate(memories):
        for row in memory.checks.itertuples():
            label = _label(row.check_name, row.parameter, " ")
            verdict = "" if pd.isna(row.passed) else (" passed" if row.passed else " **failed**")
            cells.setdefault(label, {})[column] = f"{row.value:.3f}{verdict}"
            if threshold := threshold_of(row.check_name):
                thresholds[label] = str(threshold)
    for label, values in cells.items():
        shown = [values.get(column, "") for column in range(len(memories))]
        lines.append(f"| {label} | " + " | ".join(shown) + f" | {thresholds.get(label, '')} |")
    return "\n".join(lines)


def report_metadata(memories: Sequence[CheckedMemory]) -> dict[str, Any]:
    """The table and the plots as Dagster metadata."""
    metadata: dict[str, Any] = {"memory_checks": dg.MetadataValue.md(report_markdown(memories))}
    for memory in memories:
        for name, png in memory.plots.items():
            title = f"{name.removesuffix('.png')} ({memory.policy})"
            metadata[title] = image(png, title)
    return metadata


def check_results(memories: Sequence[CheckedMemory]) -> list[dg.AssetCheckResult]:
    """Whether the first checkpoint passes, by check; the figures of all of them are metadata.

    What was not measured (no checkpoint, no held-out questions) passes, and says so.
    """
    results = []
    for name, figure in judged_figures(MEMORY_CHECKS).items():
        figures: dict[str, Any] = {}
        passed = None
        for memory in memories:
            for row in memory.checks[memory.checks["check_name"] == name].itertuples():
                figures[memory.policy] = float(row.value)
                figures[f"{memory.policy} threshold"] = float(row.threshold)
                if memory is memories[0]:
                    passed = bool(row.passed)
        judged = f"policy `{memories[0].policy}`" if memories else ""
        reason = f"{judged}: {figure.threshold}; {figure.threshold and figure.threshold.reason}"
        results.append(
            dg.AssetCheckResult(
                check_name=name,
                passed=passed is not False,
                severity=dg.AssetCheckSeverity.WARN,
                metadata=figures,
                description="not measured" if passed is None else reason,
            )
        )
    return results


def _label(name: str, parameter: float | None, separator: str) -> str:
    return name if parameter is None or pd.isna(parameter) else f"{name}{separator}{parameter:g}"
