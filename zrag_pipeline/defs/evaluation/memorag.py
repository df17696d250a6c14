"""What MemoRAG did and spent: table `memorag_traces`, and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from zrag_core.corpus.types import Question
from zrag_core.memorag.memorag_system import MemoragSystem
from zrag_pipeline.platform.markdown_text import markdown_text
from zrag_pipeline.platform.warehouse import Warehouse

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
            **{name: value for name, value in asdict(trace).items() if name != "usage"},
            **asdict(trace.usage),
        }
        for trace in system.traces.values()
    ]
    warehouse.replace_rows("memorag_traces", rows, {"run_id": run_id})
    taken = {
        **system.memory.figures,
        "asking_cost_usd": system.usage.cost_usd,
        "prompt_tokens": system.usage.prompt_tokens,
        "completion_tokens": system.usage.completion_tokens,
        "errors": sum(trace.error is not None for trace in system.traces.values()),
    }
    figures = {f"memorag_{name}": value for name, value in taken.items()}
    metadata = {name: "unknown" if value is None else value for name, value in figures.items()}
    traces = dg.MetadataValue.md(sample_traces(system, questions))
    return figures, {**metadata, "memorag_traces": traces}


def sample_traces(system: MemoragSystem, questions: Sequence[Question]) -> str:
    """The first traces as Markdown."""
    parts = []
    for question in questions[:_SAMPLES]:
        trace = system.traces[question.id]
        looked_up = ("the question itself", *(markdown_text(clue) for clue in trace.clues))
        lines = [
            f"**{markdown_text(question.question)}**",
            "",
            f"- draft: {markdown_text(trace.draft) or 'none'}",
            *(f"- {what} → {markdown_text(', '.join(ids))}" for what, ids in zip(looked_up, trace.found, strict=True)),
            f"- passages: {markdown_text(', '.join(trace.passages))}",
        ]
        parts.append("\n".join(lines + ([f"- error: {markdown_text(trace.error)}"] if trace.error else [])))
    return "\n\n".join(parts)
