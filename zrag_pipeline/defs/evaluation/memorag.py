"""What MemoRAG did and spent: table `memorag_traces`, figures, and what is left for the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg

from zrag_core.corpus.types import Question
from zrag_core.memorag.memorag_system import MemoragSystem
from zrag_core.memorag.memory import ClueMemory, Spent
from zrag_core.settings import AnswerSettings
from zrag_pipeline.platform.handles import EvidenceHandle
from zrag_pipeline.platform.warehouse import Warehouse

if TYPE_CHECKING:
    pass

_SAMPLES = 5


def store_traces(
    warehouse: Warehouse, system: MemoragSystem, questions: Sequence[Question], *, run_id: str, version: str
) -> tuple[dict[str, float | None], dict[str, Any]]:
    """Fill the table `memorag_traces` with what the system did for `questions`.

    Returns:
        what making the memory and asking it took, as metrics (a cost is None where the price is unknown), and the same
        with the first traces as Dagster metadata.
    """
    rows = [
        {
            "corpus_version": version,
            "memory": system.memory.name,
            **{name: value for name, value in asdict(trace).items() if name != "spent"},
            **asdict(trace.spent),
        }
        for trace in system.traces.values()
    ]
    warehouse.replace_rows("memorag_traces", rows, {"run_id": run_id})
    figures = {f"memorag_{name}": value for name, value in (_building(system.memory) | _asking(system)).items()}
    metadata = {name: "unknown" if value is None else value for name, value in figures.items()}
    traces = dg.MetadataValue.md(sample_traces(system, questions))
    return figures, {**metadata, "memorag_traces": traces}


def sample_traces(system: MemoragSystem, questions: Sequence[Question]) -> str:
    """The first traces as Markdown."""
    parts = []
    for question in questions[:_SAMPLES]:
        trace = system.traces[question.id]
        looked_up = ("the question itself", *(_plain(clue) for clue in trace.clues))
        lines = [
            f"**{_plain(question.question)}**",
            "",
            f"- draft: {_plain(trace.draft) or 'none'}",
            *(f"- {what} → {', '.join(ids)}" for what, ids in zip(looked_up, trace.found, strict=True)),
            f"- passages: {', '.join(trace.passages)}",
        ]
        parts.append("\n".join(lines + ([f"- error: {_plain(trace.error)}"] if trace.error else [])))
    return "\n\n".join(parts)


def left_to_spend(settings: AnswerSettings, evidence: EvidenceHandle, run_id: str) -> AnswerSettings:
    """The settings with the spending limit lowered by what the same run has spent on the evidence already."""
    spent = evidence.spent_usd if evidence.run_id == run_id else 0.0
    return settings.model_copy(update={"max_cost_usd": max(0.0, settings.max_cost_usd - spent)})


def _building(memory: ClueMemory) -> dict[str, float | None]:
    from zrag_core.memorag.summary_memory import SummaryMemory

    if isinstance(memory, SummaryMemory):
        made = memory.memory
        return {
            "summaries_made": made.asked,
            "summaries_reused": made.reused,
            "building_cost_usd": made.spent.cost_usd,
        }
    from zrag_core.memorag.kv_memory import KvMemory

    if isinstance(memory, KvMemory):
        return {
            "documents_read": memory.coverage.read,
            "tokens_read": memory.coverage.read_tokens,
            "tokens_reused": memory.reused_tokens,
            "cache_mb": memory.cache.megabytes,
        }
    return {}


def _asking(system: MemoragSystem) -> dict[str, float | None]:
    """What drafts and clues of all questions took."""
    total = sum((trace.spent for trace in system.traces.values()), Spent())
    return {
        "asking_cost_usd": total.cost_usd,
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.completion_tokens,
        "errors": sum(trace.error is not None for trace in system.traces.values()),
    }


def _plain(text: str) -> str:
    """Text on one line that Markdown takes as it is."""
    return " ".join(text.split()).replace("*", "\\*").replace("_", "\\_")
