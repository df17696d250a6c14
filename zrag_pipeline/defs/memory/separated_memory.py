"""Writing a corpus into Z as the pipeline does it: from warehouse rows and a skill to a checkpoint folder.

An update starts from a former checkpoint and writes only what is new or changed; see `zrag_core.model.store.update`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zrag_core.corpus.types import Corpus, Document, EvidenceTarget
from zrag_core.corpus.version import corpus_version
from zrag_core.errors import CheckpointError, CorpusError, ZragError
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.store.checkpoint import (
    Origin,
    checkpoint_digest,
    hash_rows,
    load_checkpoint,
    memory_id,
    read_config,
    save_checkpoint,
    stored_hashes,
)
from zrag_core.model.store.skill_folder import load_skill, read_skill_config
from zrag_core.model.store.stored_settings import writing_values
from zrag_core.model.store.update import CorpusChange, update_memory
from zrag_core.model.store.write import WritingReport
from zrag_core.settings import Settings
from zrag_pipeline.defs.memory.corpus_rows import corpus_rows, writing_progress
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import read_champion, read_champions
from zrag_pipeline.platform.handle_store import stored_handle
from zrag_pipeline.platform.handles import CheckpointReference, MemoryHandle, Params, SkillReference
from zrag_pipeline.platform.peak_memory import peak_memory
from zrag_pipeline.platform.warehouse import Warehouse


@dataclass(frozen=True)
class WrittenMemory:
    """A checkpoint whose Z was written with theta frozen.

    Attributes:
        former: the checkpoint that it was updated from; None where it was written afresh.
        change: what the update changed.
    """

    checkpoint: CheckpointReference
    shape: tuple[int, ...]
    numbers_per_document: int
    digest: str
    metrics: dict[str, float]
    params: Params
    former: CheckpointReference | None = None
    change: CorpusChange | None = None


def write_memory(
    settings: Settings,
    warehouse: Warehouse,
    version: str,
    skill: SkillReference,
    log: Callable[[str], None],
    *,
    update: bool = False,
) -> WrittenMemory:
    """Make the checkpoint of a corpus version.

    Args:
        update: start from the former checkpoint that shares most documents, where there is one of the same skill
            and settings; its rows of unchanged documents stay bit for bit.

    Raises:
        CorpusError: the skill was trained on a document of this corpus.
    """
    corpus, targets = warehouse.load_corpus(version), warehouse.load_targets(version)
    torch.set_num_threads(settings.backbone.cpu_threads)
    _refuse_seen(corpus.documents, read_skill_config(skill.folder))
    former = former_checkpoint(settings, skill, corpus) if update else None
    if update and former is None:
        log("written afresh: no former checkpoint of this skill and these settings shares a document with the corpus")
    if former is None:
        return _write(settings, corpus, targets, skill, log)
    return _update(settings, corpus, targets, skill, former, log)


def former_checkpoint(settings: Settings, skill: SkillReference, corpus: Corpus) -> Path | None:
    """Folder of the checkpoint that an update starts from: the champion's or the newest, whichever shares more.

    Only those count whose unchanged rows would come out the same: of the same skill, keys and settings of writing.
    """
    wanted = {document.content_hash for document in corpus.documents}
    best, most = None, 0
    for folder in _candidates(corpus.name):
        try:
            config = read_config(folder)
            same = config["skill"]["digest"] == skill.digest and config["writing"] == writing_values(settings.writing)
            shared = len(wanted.intersection(stored_hashes(folder))) if same else 0
        except (OSError, ValueError, KeyError, CheckpointError):
            continue  # gone, damaged, or of another format: nothing to start from
        if shared > most:
            best, most = folder, shared
    return best


def _candidates(memory: str) -> Iterator[Path]:
    try:
        champion = read_champion(memory)
    except ZragError:  # a pointer to a folder that is gone: the run makes a new champion
        champion = None
    if champion is not None:
        yield champion.folder
    newest = stored_handle("memory", MemoryHandle)
    if newest is not None and newest.checkpoint is not None:
        yield newest.checkpoint.folder


def _refuse_seen(documents: Sequence[Document], config: Mapping[str, Any]) -> None:
    seen = {document.content_hash for document in documents}.intersection(config["seen"])
    if seen:
        raise CorpusError(
            f"theta learned from {len(seen)} of the {len(documents)} documents that Z is to hold, so it may know them "
            f"by itself (skill {config['skill_id']})",
            where="skill.corpus",
            remedy="give another skill corpus, or take these documents out of one of the two",
        )


def _write(
    settings: Settings,
    corpus: Corpus,
    targets: Sequence[EvidenceTarget],
    skill: SkillReference,
    log: Callable[[str], None],
) -> WrittenMemory:
    everyday = settings.corpus.format != "almanac"
    loaded = load_skill(skill.folder, device=settings.backbone.device, everyday=everyday)
    model = loaded.model
    written = corpus_rows(settings, corpus, targets, skill.folder, model, log)
    model.hold(written.tables, written.frequency)
    origin = Origin(skill.skill_id, skill.digest, settings.writing, hash_rows(written.studied))
    n = len(corpus.documents)
    metrics = {"documents": n, **_writing_metrics(written, n, settings)}
    # The checkpoint is read with the architecture of its skill, whatever the run's settings say.
    return _save(model, corpus, targets, loaded.settings, origin, metrics)


def _update(
    settings: Settings,
    corpus: Corpus,
    targets: Sequence[EvidenceTarget],
    skill: SkillReference,
    folder: Path,
    log: Callable[[str], None],
) -> WrittenMemory:
    began = time.perf_counter()
    former = load_checkpoint(folder, device=settings.backbone.device)
    made = update_memory(
        former, corpus.documents, targets, settings.writing, on_progress=writing_progress(settings, log)
    )
    change, n = made.change, len(made.rewritten)
    metrics: dict[str, float] = {
        "documents": len(corpus.documents),
        "documents_added": len(change.added),
        "documents_changed": len(change.changed),
        "documents_removed": len(change.removed),
        "documents_unchanged": len(change.unchanged),
        "rows_written": n,
    }
    if made.written is not None:
        metrics |= _writing_metrics(made.written, n, settings)
    saved = _save(made.model, corpus, targets, former.settings, made.origin, metrics)
    seconds = time.perf_counter() - began
    timing = {"update_seconds": seconds, "seconds_per_document": seconds / max(1, n)}
    log(
        f"updated {former.id}: {len(change.added):,} added, {len(change.changed):,} changed, "
        f"{len(change.removed):,} removed, {len(change.unchanged):,} unchanged; {seconds:.1f} s"
        + (f", {seconds / n:.2f} s per document written" if n else "")
    )
    return dataclasses.replace(
        saved,
        metrics={**saved.metrics, **timing},
        former=_former_of(saved.checkpoint.checkpoint_id, folder),
        change=change,
    )


def _former_of(checkpoint_id: str, folder: Path) -> CheckpointReference:
    """What a checkpoint was updated from. A run that is repeated starts from its own result: what that one says."""
    if read_config(folder)["checkpoint_id"] == checkpoint_id:
        newest = stored_handle("memory", MemoryHandle)
        if newest is not None and newest.checkpoint_id == checkpoint_id and newest.former is not None:
            return newest.former
    return _reference(folder)


def proof_base(handle: MemoryHandle, corpus: str) -> CheckpointReference | None:
    """The checkpoint that an update is proven against: the newest champion that a run has checked.

    Not simply the one it was made from: that may be one whose proofs failed or were never run (a run that was
    stopped, `zrag add`), and held against that, what went wrong before would pass.

    Args:
        handle: of the asset `memory`, with a checkpoint.
        corpus: name of its corpus; champions of others say nothing about it.

    Returns:
        None where the checkpoint was written afresh, or is that champion.
    """
    if handle.former is None or handle.checkpoint is None:
        return None
    skill = read_config(handle.checkpoint.folder)["skill"]
    for champion in read_champions(corpus):
        if not champion.proven:
            continue
        with contextlib.suppress(CheckpointError, KeyError):  # gone, or of another kind
            if read_config(champion.folder)["skill"] == skill:
                return None if champion.checkpoint_id == handle.checkpoint_id else _reference(champion.folder)
        break
    return None if handle.former.checkpoint_id == handle.checkpoint_id else handle.former


def _reference(folder: Path) -> CheckpointReference:
    config = read_config(folder)
    return CheckpointReference(config["checkpoint_id"], folder, config["corpus_version"])


def _save(
    model: SeparatedMemory,
    corpus: Corpus,
    targets: Sequence[EvidenceTarget],
    stored: Settings,
    origin: Origin,
    metrics: dict[str, float],
) -> WrittenMemory:
    checkpoint_id = memory_id(origin.skill_digest, corpus, targets, stored, origin.writing)
    folder = paths.checkpoints_dir() / checkpoint_id
    metrics = {
        **metrics,
        "bytes_per_document": model.bytes_per_document(),
        "peak_memory_gb": peak_memory(),
    }
    save_checkpoint(
        folder, model, corpus.documents, stored, checkpoint_id=checkpoint_id, metrics=metrics, origin=origin
    )
    return WrittenMemory(
        CheckpointReference(checkpoint_id, folder, corpus_version(corpus.documents)),
        model.shape,
        model.numbers_per_document,
        checkpoint_digest(folder),
        metrics,
        {
            "policy": model.policy,
            "backbone": stored.backbone.name,
            "skill": origin.skill_id,
            "m": model.shape[1],
            "d": model.shape[2],
            "key_numbers": model.key_numbers,
            "writing_steps": origin.writing.steps,
        },
    )


def _writing_metrics(written: WritingReport, n: int, settings: Settings) -> dict[str, float]:
    steps = written.steps.float()
    return {
        "documents_per_s_encoded": n / max(written.encode_seconds, 1e-9),
        "refine_seconds": written.refine_seconds,
        "refine_steps_mean": float(steps.mean()),
        "refine_steps_most": float(steps.max()),
        "refine_loss_mean": float(written.loss.nanmean()) if settings.writing.steps else 0.0,
        "longest_document_tokens": written.longest,
    }
