"""A joint memory, trained and written as a checkpoint: by the process of the run, or by several of their own."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.errors import CheckpointError
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.create_backbone import create_backbone, load_backbone
from zrag_core.model.store.checkpoint import save_checkpoint
from zrag_core.model.training.joint_training import TrainingResult, train_joint, training_fingerprint
from zrag_core.model.training.process_group import ALONE, ProcessGroup
from zrag_core.model.training.progress import TrainingHooks
from zrag_core.settings import Settings, load_settings
from zrag_core.settings.backbone import TINY
from zrag_pipeline.defs.memory.training_log import training_metrics
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.handles import BackboneHandle
from zrag_pipeline.platform.warehouse import Warehouse

HooksFor = Callable[[Path], TrainingHooks]
"""Hooks of a training whose resumable state lies in this folder."""


@dataclass(frozen=True)
class JointJob:
    """What a joint memory is made from; the corpus and its targets are in the warehouse."""

    settings: Settings
    corpus_version: str
    backbone: BackboneHandle

    def values(self) -> dict[str, Any]:
        """The job as JSON."""
        folder = self.backbone.folder
        return {
            "settings": self.settings.model_dump(mode="json"),
            "corpus_version": self.corpus_version,
            "backbone": {"digest": self.backbone.digest, "folder": None if folder is None else str(folder)},
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The job that `values` came from."""
        folder = values["backbone"]["folder"]
        backbone = BackboneHandle(values["backbone"]["digest"], None if folder is None else Path(folder))
        return cls(load_settings(values["settings"]), values["corpus_version"], backbone)


@dataclass(frozen=True)
class TrainedMemory:
    """What a training has left.

    Attributes:
        folder: the checkpoint.
        shape: N, m and d.
        notes: lines for people about what was left out or cut.
    """

    checkpoint_id: str
    folder: Path
    shape: tuple[int, ...]
    steps: int
    metrics: dict[str, float]
    notes: tuple[str, ...]

    def values(self) -> dict[str, Any]:
        """The same as JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"folder": str(self.folder)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The memory that `values` came from."""
        places = {"folder": Path(values["folder"]), "shape": tuple(values["shape"]), "notes": tuple(values["notes"])}
        return cls(**{**values, **places})


def train_and_save(
    job: JointJob, warehouse: Warehouse, hooks: HooksFor, group: ProcessGroup = ALONE
) -> TrainedMemory | None:
    """Train a joint memory and write its checkpoint; None in all processes of a group but the main one.

    Raises:
        CheckpointError: the prepared backbone belongs to other settings or another corpus.
    """
    settings = job.settings
    documents = warehouse.load_corpus(job.corpus_version).documents
    targets = warehouse.load_targets(job.corpus_version)
    texts = tokenizer_texts(documents, targets) if settings.backbone.name == TINY else []
    backbone = _prepared(settings, job.backbone, texts)
    fingerprint = training_fingerprint(documents, targets, settings)
    state = paths.checkpoints_dir() / ".training" / fingerprint
    result = train_joint(documents, targets, backbone, settings, hooks(state), group)
    if not group.is_main:
        return None
    checkpoint_id = f"joint-{fingerprint}"
    folder = paths.checkpoints_dir() / checkpoint_id
    metrics = {
        **training_metrics(result.steps, result.resumed_from, result.seconds, result.losses),
        "targets_left_out": result.unplaced,
        **({} if result.dev_loss is None else {"dev_loss_evidence": result.dev_loss}),
    }
    save_checkpoint(folder, result.model, documents, settings, checkpoint_id=checkpoint_id, metrics=metrics)
    shutil.rmtree(state, ignore_errors=True)  # a repeated run starts afresh, it does not "resume" a finished one
    return TrainedMemory(checkpoint_id, folder, result.model.shape, result.steps, metrics, _notes(result))


def tokenizer_texts(documents: Sequence[Document], targets: Sequence[EvidenceTarget]) -> list[str]:
    """What `zrag-tiny` learns its tokenizer from: the documents and the training questions."""
    asked = [target.query for target in targets if target.split == "train" and target.method != "self_study"]
    return [document.contents for document in documents] + asked


def backbone_digest(settings: Settings, texts: Sequence[str]) -> str:
    """Identifies initial weights by all that they depend on."""
    payload = [
        settings.backbone.model_dump(mode="json", exclude={"device", "threads"}),
        settings.joint.seed,
        list(texts),
    ]
    return hashlib.sha256(json.dumps(payload, ensure_ascii=False).encode("utf-8")).hexdigest()[:12]


def _prepared(settings: Settings, prepared: BackboneHandle, texts: Sequence[str]) -> Backbone:
    if prepared.digest != backbone_digest(settings, texts):
        raise CheckpointError(
            "the prepared backbone belongs to other settings or another corpus",
            where="asset backbone",
            remedy="materialise it again with the same configuration (job `train` does)",
        )
    if prepared.folder is None:
        return create_backbone(settings.backbone, (), seed=settings.joint.seed)
    return load_backbone(settings.backbone, prepared.folder, trainable=True)


def _notes(result: TrainingResult) -> tuple[str, ...]:
    notes = []
    if result.unplaced:
        notes.append(f"{result.unplaced:,} targets were left out: their evidence stands in none of their documents")
    cut = [f"{n:,} {name}" for name, n in result.truncated.items() if n]
    if cut:
        notes.append(f"cut to the configured lengths: {', '.join(cut)}")
    return tuple(notes)
