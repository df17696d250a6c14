"""MemoRAG in the pipeline: its memory model as the settings want it, what that cost, and the traces it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg

from zrag_core.answering.ledger import SpendingLedger
from zrag_core.corpus.types import Corpus, Question
from zrag_core.corpus.version import corpus_version
from zrag_core.errors import SettingsError
from zrag_core.evidence import EvidenceSystem
from zrag_core.memorag.memorag_system import MemoragSystem
from zrag_core.memorag.memory import ClueMemory, Spent
from zrag_core.settings import AnswerSettings, MemoragSettings, Settings
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.handles import EvidenceHandle
from zrag_pipeline.platform.warehouse import Warehouse

if TYPE_CHECKING:
    from zrag_core.model.store.checkpoint import Checkpoint

_SAMPLES = 5
_PARAMS = {
    "z": (),
    "summary": (
        "light_model",
        "light_temperature",
        "group_tokens",
        "summary_tokens",
        "page_tokens",
        "memory_tokens",
        "draft_tokens",
        "clue_tokens",
    ),
    "kv": ("kv_model", "kv_window", "kv_dtype", "draft_tokens", "clue_tokens"),
}


def make_memorag(
    settings: Settings,
    corpus: Corpus,
    retriever: EvidenceSystem,
    *,
    checkpoint: Checkpoint | None,
    ledger: SpendingLedger,
    environ: Mapping[str, str],
) -> MemoragSystem:
    """MemoRAG with the memory that the settings name.

    Summaries and KV caches are kept in the data folder. A summary is a file named by what it is made of, so all corpus
    versions share one folder and an updated corpus pays for what changed; a KV cache has a folder per
    corpus version, and goes on from the one that begins like it.

    Args:
        retriever: looks up question and clues.
        checkpoint: the separated memory, for memory `z`.
        ledger: holds the spending limit of the run.

    Raises:
        SettingsError: no model can be asked, or a local one cannot be loaded.
        AnsweringError: a summary could not be made; what was made so far is kept.
    """
    memory = _memory(settings, corpus, checkpoint, ledger, environ)
    own = settings.memorag
    return MemoragSystem(
        "memorag", memory, retriever, corpus.documents, own.passages_per_clue, rrf_k=settings.baselines.rrf_k
    )


def memorag_params(settings: MemoragSettings) -> dict[str, Any]:
    """What tells one MemoRAG from another, without what its retriever and Z add."""
    own = {name: getattr(settings, name) for name in ("retriever", "passages_per_clue", *_PARAMS[settings.memory])}
    return {"memorag_memory": settings.memory, **own}


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


def _memory(
    settings: Settings,
    corpus: Corpus,
    checkpoint: Checkpoint | None,
    ledger: SpendingLedger,
    environ: Mapping[str, str],
) -> ClueMemory:
    own = settings.memorag
    if own.memory == "z":
        from zrag_core.memorag.z_memory import ZMemory
        from zrag_core.model.inference.memory_system import MemorySystem

        assert checkpoint is not None, "memory z reads one"
        threads = settings.training.threads
        return ZMemory(MemorySystem("memorag", checkpoint, settings.decoding, free=True, threads=threads))
    if own.memory == "kv":
        return _kv_memory(settings, corpus)
    return _summary_memory(settings, corpus, ledger, environ)


def _summary_memory(
    settings: Settings, corpus: Corpus, ledger: SpendingLedger, environ: Mapping[str, str]
) -> ClueMemory:
    from zrag_core.answering.choice import choose_reader
    from zrag_core.answering.client import OpenAIReader
    from zrag_core.memorag.summaries import build_summaries
    from zrag_core.memorag.summary_memory import SummaryMemory, light_settings

    own, answers = settings.memorag, settings.answers
    light = light_settings(answers, own.light_model, own.light_temperature)
    reader = choose_reader(light, environ, paths.answer_cache_file(), ledger=ledger)
    if not isinstance(reader, OpenAIReader):
        raise SettingsError(
            "a summary memory asks a light LLM, and the offline reader is none",
            where="memorag.memory",
            remedy=f"export {answers.api_key_env} (with answers.reader auto or openai), give answers.base_url with "
            "reader openai, or set memorag.memory to z",
        )
    memory = build_summaries(
        corpus.documents,
        reader,
        paths.memorag_dir() / "summaries",
        group_tokens=own.group_tokens,
        summary_tokens=own.summary_tokens,
        page_tokens=own.page_tokens,
    )
    return SummaryMemory(
        reader,
        memory,
        memory_tokens=own.memory_tokens,
        draft_tokens=own.draft_tokens,
        clue_tokens=own.clue_tokens,
    )


def _kv_memory(settings: Settings, corpus: Corpus) -> ClueMemory:
    import torch

    from zrag_core.memorag.kv_memory import KvMemory
    from zrag_core.memorag.kv_reader import load_causal_lm

    own = settings.memorag
    assert own.kv_model is not None, "the settings demand it"
    torch.set_num_threads(settings.training.threads)
    folder = paths.memorag_dir() / "kv"
    lm, tokenizer = load_causal_lm(own.kv_model, device=settings.backbone.device, dtype=own.kv_dtype)
    return KvMemory.build(
        lm,
        tokenizer,
        corpus.documents,
        folder / corpus_version(corpus.documents),
        earlier=sorted(path for path in folder.glob("*") if path.is_dir()),
        window=own.kv_window,
        chunk_tokens=own.kv_chunk_tokens,
        draft_tokens=own.draft_tokens,
        clue_tokens=own.clue_tokens,
        batch_size=own.kv_batch_size,
    )


def _plain(text: str) -> str:
    """Text on one line that Markdown takes as it is."""
    return " ".join(text.split()).replace("*", "\\*").replace("_", "\\_")
