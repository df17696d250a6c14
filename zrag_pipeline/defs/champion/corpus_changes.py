"""Changes by command (`zrag add`, `zrag remove`), recorded beside the corpus and applied to the champion at once.

The order lets a command be killed at any moment and repeated: first the overlay, which every later run applies, then
the corpus in the warehouse, the new checkpoint, and last the pointer. What a repeated command finds done, it skips.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zrag_core.corpus.overlay import Overlay, apply_overlay, load_overlay, save_overlay
from zrag_core.corpus.types import Corpus, Document, EvidenceTarget, Question
from zrag_core.corpus.version import corpus_version
from zrag_core.errors import CheckpointError, UnknownCorpusError
from zrag_core.settings.backbone import PACKAGED
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import Champion, now, read_champion, required_memory, write_champion
from zrag_pipeline.platform.checkpoint_documents import checkpoint_backbone
from zrag_pipeline.platform.file_lock import locked
from zrag_pipeline.platform.warehouse import Warehouse, corpora

if TYPE_CHECKING:
    from zrag_core.model.store.checkpoint import Checkpoint
    from zrag_core.model.store.update import CorpusChange, UpdatedMemory


@dataclass(frozen=True)
class AppliedChange:
    """A change of the corpus that the memory has followed.

    Attributes:
        checkpoint_id: of the champion now; the same as before where the memory held everything already.
        change: documents added, changed, removed and the same.
        seconds: of the whole change, without starting up.
        written: documents whose rows were written.
    """

    checkpoint_id: str
    change: CorpusChange
    seconds: float
    written: int

    def lines(self) -> list[str]:
        """Lines for the terminal."""
        change = self.change
        counts = (
            f"{len(change.added):,} added, {len(change.changed):,} changed, {len(change.removed):,} removed, "
            f"{len(change.unchanged):,} unchanged"
        )
        if change.empty:
            return [f"documents: {counts}", f"memory:    {self.checkpoint_id} holds this already"]
        each = f", {self.seconds / self.written:.2f} s per document written" if self.written else ""
        return [
            f"documents: {counts}",
            f"memory:    {self.checkpoint_id} is the champion now ({self.seconds:.1f} s{each})",
            "next:      the next run of the job `update_memory` evaluates it; `zrag rollback` takes it back",
        ]


def change_lock() -> AbstractContextManager[None]:
    """Let one command at a time change corpus and champion; others wait."""
    return locked(paths.data_dir() / ".corpus_changes.lock")


def read_anew(corpus: str, folder: Path) -> None:
    """Forget what `zrag add` said of files that lie in the corpus' folder: what stands there now is newer."""
    place = paths.overlay_dir(corpus)
    if not (folder.is_dir() and place.is_dir()):
        return
    with change_lock():
        overlay = load_overlay(place)
        if (kept := overlay.without_added(folder)) != overlay:
            save_overlay(place, kept)


def required_champion(memory: str | None = None) -> Champion:
    """The champion of a memory, whose corpus is changed.

    Args:
        memory: its name; left out: the default one.

    Raises:
        CheckpointError: there is none, or it is gone.
    """
    champion = read_champion(required_memory(memory))
    if champion is None:
        raise CheckpointError(
            "there is no champion yet, so no memory to change",
            where=str(paths.data_path()),
            remedy="`zrag ingest FOLDER` makes one of your documents, `make demo` one of built-in ones",
        )
    return champion


def change_corpus(
    champion: Champion,
    change: Callable[[Overlay], Overlay],
    *,
    reason: str,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> AppliedChange:
    """Record a change of the champion's corpus and make the memory that follows it the champion.

    Args:
        change: what the command does to the overlay.
        reason: why the new checkpoint becomes the champion.

    Raises:
        CheckpointError: the memory cannot be updated (policy `joint`, or an older format); nothing is recorded then.
        CorpusError: nothing would be left in the corpus.
    """
    import torch

    from zrag_core.model.store.checkpoint import load_checkpoint
    from zrag_core.model.store.update import update_memory

    started = time.perf_counter()
    folder = paths.overlay_dir(champion.corpus)
    overlay = change(load_overlay(folder))
    # A packaged LLM is not trained on the corpus: its weights are saved by name, and rows are written without its head.
    packaged = checkpoint_backbone(champion.folder) in PACKAGED
    checkpoint = load_checkpoint(champion.folder, device=champion.backbone_device, verbatim=packaged)
    warehouse = Warehouse(paths.warehouse_file())
    after, targets = changed_corpus(champion, checkpoint.documents, overlay, warehouse)
    if checkpoint.origin is None:
        raise CheckpointError(
            "this memory cannot be changed document by document: its policy is joint, or it is of an older zRAG",
            where=str(checkpoint.folder),
            remedy="change the corpus itself and run the job `full`",
        )
    save_overlay(folder, overlay)
    torch.set_num_threads(checkpoint.settings.backbone.cpu_threads)
    updated = update_memory(checkpoint, after.documents, targets, checkpoint.origin.writing, on_progress=on_progress)
    made = checkpoint.id
    if not updated.change.empty:
        with warehouse.write() as con:
            corpora.save_corpus(con, corpus_version(after.documents), after)
            corpora.save_targets(con, corpus_version(after.documents), targets)
        made = _save(checkpoint, updated, after, targets)
        write_champion(
            replace(
                champion,
                checkpoint_id=made,
                folder=paths.checkpoints_dir() / made,
                corpus_version=corpus_version(after.documents),
                promoted_at=now(),
                reason=reason,
                proven=False,
            )
        )
    return AppliedChange(made, updated.change, time.perf_counter() - started, len(updated.rewritten))


def _save(checkpoint: Checkpoint, updated: UpdatedMemory, after: Corpus, targets: Sequence[EvidenceTarget]) -> str:
    """Write the updated memory as a checkpoint of its own, and return its id."""
    from zrag_core.model.store.checkpoint import memory_id, save_checkpoint

    origin = updated.origin
    made = memory_id(origin.skill_digest, after, targets, checkpoint.settings, origin.writing)
    metrics = {
        "documents": len(after.documents),
        "documents_written": len(updated.rewritten),
        "update_seconds": updated.seconds,
    }
    save_checkpoint(
        paths.checkpoints_dir() / made,
        updated.model,
        after.documents,
        checkpoint.settings,
        checkpoint_id=made,
        metrics=metrics,
        origin=origin,
    )
    return made


def changed_corpus(
    champion: Champion, documents: Sequence[Document], overlay: Overlay, warehouse: Warehouse
) -> tuple[Corpus, list[EvidenceTarget]]:
    """The champion's corpus with an overlay applied, and its evidence targets.

    Questions and targets of the champion's corpus come from the warehouse, where it is known there; so do those of
    the changed corpus, where the change leads back to one.

    Args:
        documents: those in the champion's memory.
    """
    questions: tuple[Question, ...] = ()
    notes: tuple[str, ...] = ()
    targets: Sequence[EvidenceTarget] = ()
    with contextlib.suppress(UnknownCorpusError):  # the memory was made elsewhere: there is nothing to keep
        stored = warehouse.load_corpus(champion.corpus_version)
        targets = warehouse.load_targets(champion.corpus_version)
        known = {document.id for document in documents}
        questions = tuple(question for question in stored.questions if known.issuperset(question.document_ids))
        notes = stored.notes
    after = apply_overlay(Corpus(champion.corpus, tuple(documents), questions, notes), overlay)
    return _on_record(after, _targets(documents, after, targets), warehouse)


def _on_record(
    after: Corpus, targets: list[EvidenceTarget], warehouse: Warehouse
) -> tuple[Corpus, list[EvidenceTarget]]:
    """A corpus that was on record before has the questions and targets that it had then: no change loses them."""
    version = corpus_version(after.documents)
    with contextlib.suppress(UnknownCorpusError):  # a new one, or one without targets
        stored = warehouse.load_corpus(version)
        after = replace(after, questions=stored.questions, notes=stored.notes)
        targets = list(warehouse.load_targets(version))
    return after, targets


def _targets(before: Sequence[Document], after: Corpus, targets: Sequence[EvidenceTarget]) -> list[EvidenceTarget]:
    """The former targets of documents that stayed as they were, so that their rows do, and new ones of the others."""
    from zrag_core.corpus.targets import build_targets
    from zrag_core.settings import TargetSettings

    hashes = {document.id: document.content_hash for document in before} if targets else {}
    same = {document.id for document in after.documents if hashes.get(document.id) == document.content_hash}
    kept = [target for target in targets if same.issuperset(target.document_ids)]
    if len(same) == len(after.documents):
        return kept
    return kept + [t for t in build_targets(after, TargetSettings(), 0) if not same.issuperset(t.document_ids)]
