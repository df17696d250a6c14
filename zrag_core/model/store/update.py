"""Updating a written memory: new documents get a row, removed ones lose theirs, and every other row stays as it is.

A row is a function of its document, what that is refined on, theta and the settings of writing; nothing else of the
corpus goes into it. So an updated memory is the one that writing the corpus afresh would give, up to floating-point
rounding in the rows that were written (their batches differ), and exact in ids, hashes, words and document
counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.errors import CheckpointError
from zrag_core.model.architecture.document_words import document_frequency
from zrag_core.model.architecture.memory_tables import Tables, rearranged
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.store.checkpoint import Checkpoint, Origin, hash_rows, row_hashes
from zrag_core.model.store.stored_settings import writing_values
from zrag_core.model.store.write import Written, plan_studies, write_documents
from zrag_core.settings import WritingSettings


@dataclass(frozen=True, slots=True)
class CorpusChange:
    """How a corpus differs from a former one: ids of documents, the removed ones in the former order."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether both hold the same documents (their order does not matter)."""
        return not (self.added or self.changed or self.removed)

    @property
    def share(self) -> float:
        """Share of the documents of either corpus that are not the same in both."""
        different = len(self.added) + len(self.changed) + len(self.removed)
        return different / max(1, different + len(self.unchanged))


@dataclass(frozen=True)
class UpdatedMemory:
    """A memory after an update.

    Attributes:
        model: theta of the checkpoint (shared with its model) and the new memory, rows in the documents' order.
        origin: for `save_checkpoint`.
        change: of the corpus.
        rewritten: ids of the documents whose rows were written: the added and changed ones, and those that are
            refined on something else than before.
        seconds: of everything.
        written: what writing them took, rows in the order of `rewritten`; None where nothing was written.
    """

    model: SeparatedMemory
    origin: Origin
    change: CorpusChange
    rewritten: tuple[str, ...]
    seconds: float
    written: Written | None


def compare_documents(old: Sequence[Document], new: Sequence[Document]) -> CorpusChange:
    """What is added, changed (title or text), removed and the same, by id and content hash."""
    before = {document.id: document.content_hash for document in old}
    after = {document.id for document in new}
    same = {document.id for document in new if before.get(document.id) == document.content_hash}
    return CorpusChange(
        added=tuple(document.id for document in new if document.id not in before),
        changed=tuple(document.id for document in new if document.id in before and document.id not in same),
        removed=tuple(document.id for document in old if document.id not in after),
        unchanged=tuple(document.id for document in new if document.id in same),
    )


def update_memory(
    checkpoint: Checkpoint,
    documents: Sequence[Document],
    targets: Sequence[EvidenceTarget],
    writing: WritingSettings,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> UpdatedMemory:
    """The memory of `documents`, made from that of a checkpoint, which stays as it is.

    Args:
        checkpoint: of the policy `separated`.
        documents: the new corpus, whole.
        targets: its evidence targets; see `write_documents`.
        writing: the settings that the checkpoint was written with (the batch size may differ).
        on_progress: see `write_documents`; only what is written is counted.

    Raises:
        CheckpointError: rows cannot be made one by one (policy `joint`), or other settings made them.
    """
    started = time.perf_counter()
    old, origin = _updatable(checkpoint, writing)
    change = compare_documents(checkpoint.documents, documents)
    unchanged = set(change.unchanged)
    studied = _studied(documents, targets, old, writing)
    before = dict(zip((d.id for d in checkpoint.documents), row_hashes(origin.studied), strict=True))
    fresh = [
        (row, document)
        for row, (document, digest) in enumerate(zip(documents, studied, strict=True))
        if document.id not in unchanged or before[document.id] != digest
    ]
    kept = sorted(set(range(len(documents))) - {row for row, _ in fresh})
    former = {document.id: row for row, document in enumerate(checkpoint.documents)}
    sources = [former[documents[row].id] for row in kept]

    model = old.with_same_theta()
    tables: Tables = old.held.tables
    written = None
    places = dict(zip(kept, sources, strict=True)) | {
        row: old.n_documents + number for number, (row, _) in enumerate(fresh)
    }
    order = [places[row] for row in range(len(documents))]
    if fresh:
        own = [document for _, document in fresh]
        written = write_documents(model, own, targets, writing, on_progress=on_progress)
        tables = rearranged(tables, model.tables_of(own, written.z, written.spans), order)
    else:
        tables = {name: table.select(order) for name, table in tables.items()}
    model.hold(tables, _frequency(old.held.frequency, checkpoint.documents, documents, change))
    return UpdatedMemory(
        model=model,
        origin=replace(origin, writing=writing, studied=hash_rows(studied)),
        change=change,
        rewritten=tuple(document.id for _, document in fresh),
        seconds=time.perf_counter() - started,
        written=written,
    )


def _updatable(checkpoint: Checkpoint, writing: WritingSettings) -> tuple[SeparatedMemory, Origin]:
    model = checkpoint.separated
    if checkpoint.origin is None:
        raise CheckpointError(
            "the checkpoint does not say with what it was written, so it cannot be updated",
            where=str(checkpoint.folder),
            remedy="write the whole corpus again (job `train`)",
        )
    before, now = writing_values(checkpoint.origin.writing), writing_values(writing)
    different = sorted(name for name in now if now[name] != before[name])
    if different:
        raise CheckpointError(
            f"its rows were written with other settings ({', '.join(f'writing.{name}' for name in different)})",
            where=str(checkpoint.folder),
            remedy="write the whole corpus again (job `train`), or keep the settings",
        )
    return model, checkpoint.origin


def _studied(
    documents: Sequence[Document], targets: Sequence[EvidenceTarget], model: SeparatedMemory, writing: WritingSettings
) -> list[str]:
    return [study.digest for study in plan_studies(documents, targets, model, writing)]


def _frequency(
    former: torch.Tensor, old: Sequence[Document], new: Sequence[Document], change: CorpusChange
) -> torch.Tensor:
    """Document counts without the former texts of what changed and with the new ones: whole numbers, so exact."""
    gone, come = {*change.removed, *change.changed}, {*change.added, *change.changed}
    counts = former.cpu() - document_frequency([d for d in old if d.id in gone])
    return counts + document_frequency([d for d in new if d.id in come])
