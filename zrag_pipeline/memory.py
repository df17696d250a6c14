"""Writing a corpus into Z as the pipeline does it: from warehouse rows and a skill to a checkpoint folder."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zrag_core.errors import CorpusError
from zrag_core.model.checkpoint import Origin, checkpoint_digest, hash_rows, memory_id, save_checkpoint
from zrag_core.model.skill_folder import load_skill
from zrag_core.model.writing import write_documents
from zrag_core.settings import BackboneSettings, DecodingSettings, Settings, TrainingSettings
from zrag_pipeline import paths
from zrag_pipeline.warehouse import Warehouse


@dataclass(frozen=True)
class WrittenMemory:
    """A checkpoint whose Z was written with theta frozen."""

    checkpoint_id: str
    folder: Path
    shape: tuple[int, ...]
    numbers_per_document: int
    digest: str
    metrics: dict[str, float]
    params: dict[str, Any]


def write_memory(
    settings: Settings,
    warehouse: Warehouse,
    version: str,
    skill: Mapping[str, Any],
    log: Callable[[str], None],
) -> WrittenMemory:
    """Write every document of a corpus version and store the checkpoint.

    Args:
        skill: handle of the asset `skill`.

    Raises:
        CorpusError: the skill was trained on a document of this corpus.
    """
    corpus = warehouse.load_corpus(version)
    targets = warehouse.load_targets(version)
    documents = corpus.documents
    model, config = load_skill(Path(skill["folder"]), 0, keys=settings.memory, device=settings.backbone.device)

    seen = {document.content_hash for document in documents}.intersection(config["seen"])
    if seen:
        raise CorpusError(
            f"theta learned from {len(seen)} of the {len(documents)} documents that Z is to hold, so it may know them "
            f"by itself (skill {config['skill_id']})",
            where="skill.corpus",
            remedy="give another skill corpus, or take these documents out of one of the two",
        )

    def on_progress(phase: str, done: int, total: int) -> None:
        if done == total or done % (settings.writing.batch_size * 8) == 0:
            log(f"{phase} {done:,} of {total:,} documents")

    written = write_documents(model, documents, targets, settings.writing, on_progress=on_progress)
    model.remember(documents, written.z, written.spans)
    checkpoint_id = memory_id(skill["digest"], corpus, targets, model.settings, settings.writing)
    origin = Origin(skill["skill_id"], skill["digest"], settings.writing, hash_rows(written.studied))
    folder = paths.checkpoints_dir() / checkpoint_id
    steps = written.steps.float()
    n = max(1, len(documents))
    metrics = {
        "documents": len(documents),
        "documents_per_s_encoded": n / max(written.encode_seconds, 1e-9),
        "refine_seconds": written.refine_seconds,
        "refine_steps_mean": float(steps.mean()),
        "refine_steps_most": float(steps.max()),
        "refine_loss_mean": float(written.loss.nanmean()) if settings.writing.steps else 0.0,
        "longest_document_tokens": written.longest,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
    }
    # The checkpoint is read with the architecture of its skill, whatever the run's settings say; how joint memories
    # are trained, and how evidence is decoded here, is no part of it.
    stored = settings.model_copy(
        update={
            "backbone": BackboneSettings.model_validate(config["settings"]["backbone"]),
            "memory": model.settings,
            "training": TrainingSettings(),
            "decoding": DecodingSettings(),
        }
    )
    save_checkpoint(folder, model, documents, stored, checkpoint_id=checkpoint_id, metrics=metrics, origin=origin)
    keys = stored.memory.title_width + stored.memory.text_width
    return WrittenMemory(
        checkpoint_id,
        folder,
        tuple(model.z.shape),
        model.z[0].numel() + keys,
        checkpoint_digest(folder),
        metrics,
        {
            "policy": stored.memory.policy,
            "backbone": stored.backbone.name,
            "skill": skill["skill_id"],
            "m": stored.memory.slots,
            "d": stored.memory.width,
            "key_numbers": keys,
            "writing_steps": settings.writing.steps,
        },
    )
