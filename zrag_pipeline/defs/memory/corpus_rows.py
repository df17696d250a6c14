"""The rows of a corpus in Z as the run's engine makes them, and the lines that say how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from zrag_core.corpus.types import Corpus, EvidenceTarget
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.settings import Settings
from zrag_core.sharding.corpus_writing import (
    DocumentWriter,
    WritingRecipe,
    WrittenRows,
    document_shards,
    write_corpus,
)
from zrag_core.sharding.engine_choice import open_engine


def corpus_rows(
    settings: Settings,
    corpus: Corpus,
    targets: Sequence[EvidenceTarget],
    skill: Path,
    model: SeparatedMemory,
    log: Callable[[str], None],
) -> WrittenRows:
    """The rows of a corpus, written by the workers of the run's engine.

    Args:
        skill: its folder.
        model: the skill, open in this process.
    """
    threads, n = settings.backbone.cpu_threads, len(corpus.documents)
    recipe = WritingRecipe(skill, settings.backbone.device, threads, settings.writing)
    shards = document_shards(corpus.documents, targets, settings.engine.documents_per_shard)
    own = DocumentWriter(model, settings.writing, writing_progress(settings, log))

    def on_done(done: int) -> None:
        if len(shards) > 1:
            log(
                f"wrote {min(done * len(shards[0].documents), n):,} of {n:,} documents ({done} of {len(shards)} shards)"
            )

    with open_engine(settings.engine, threads) as engine:
        return write_corpus(engine, recipe, shards, own=own, on_done=on_done)


def writing_progress(settings: Settings, log: Callable[[str], None]) -> Callable[[str, int, int], None]:
    """Says how far writing is, a line for every eight batches."""

    def on_progress(phase: str, done: int, total: int) -> None:
        if done == total or done % (settings.writing.batch_size * 8) == 0:
            log(f"{phase} {done:,} of {total:,} documents")

    return on_progress
