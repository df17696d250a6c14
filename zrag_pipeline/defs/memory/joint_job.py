"""Joint training as a job: from warehouse rows to a checkpoint folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.errors import CheckpointError
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.create_backbone import create_backbone, load_backbone
from zrag_core.model.store.checkpoint import save_checkpoint
from zrag_core.model.training.joint_training import TrainingResult, train_joint, training_fingerprint
from zrag_core.model.training.process_group import ALONE, ProcessGroup
from zrag_core.settings import Settings, load_settings
from zrag_core.settings.backbone import TINY
from zrag_pipeline.defs.memory.training_job import HooksFor, Log, path_of, path_value, settings_values
from zrag_pipeline.defs.memory.training_log import training_metrics
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.handles import BackboneHandle
from zrag_pipeline.platform.warehouse import Warehouse


@dataclass(frozen=True)
class JointJob:
    """What a joint memory is made from.

    Attributes:
        warehouse: the file that holds corpus and targets.
    """

    kind: ClassVar[str] = "joint"

    settings: Settings
    warehouse: Path
    corpus_version: str
    backbone: BackboneHandle

    @property
    def processes(self) -> int:
        """How many of its own it has."""
        return self.settings.joint.processes

    def values(self) -> dict[str, Any]:
        """The job as JSON."""
        return {
            "settings": settings_values(self.settings),
            "warehouse": str(self.warehouse),
            "corpus_version": self.corpus_version,
            "backbone": {"digest": self.backbone.digest, "folder": path_value(self.backbone.folder)},
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The job that `values` came from."""
        backbone = BackboneHandle(values["backbone"]["digest"], path_of(values["backbone"]["folder"]))
        settings, warehouse = load_settings(values["settings"]), Path(values["warehouse"])
        return cls(settings, warehouse, values["corpus_version"], backbone)

    def train(self, hooks: HooksFor, log: Log, group: ProcessGroup = ALONE) -> dict[str, Any] | None:
        """Train a joint memory and write its checkpoint.

        Returns:
            `checkpoint_id`, `shape`, `steps` and `metrics`; None in all processes but the main one.

        Raises:
            CheckpointError: the prepared backbone belongs to other settings or another corpus.
        """
        settings, warehouse = self.settings, Warehouse(self.warehouse)
        documents = warehouse.load_corpus(self.corpus_version).documents
        targets = warehouse.load_targets(self.corpus_version)
        texts = tokenizer_texts(documents, targets) if settings.backbone.name == TINY else []
        backbone = _prepared(settings, self.backbone, texts)
        fingerprint = training_fingerprint(documents, targets, settings)
        state = paths.checkpoints_dir() / ".training" / fingerprint
        result = train_joint(documents, targets, backbone, settings, hooks(state), group)
        if not group.is_main:
            return None
        for line in _notes(result):
            log(line)
        checkpoint_id = f"joint-{fingerprint}"
        metrics = {
            **training_metrics(result.steps, result.resumed_from, result.seconds, result.losses),
            "targets_left_out": result.unplaced,
            **({} if result.dev_loss is None else {"dev_loss_evidence": result.dev_loss}),
        }
        folder = checkpoint_folder(checkpoint_id)
        save_checkpoint(folder, result.model, documents, settings, checkpoint_id=checkpoint_id, metrics=metrics)
        shutil.rmtree(state, ignore_errors=True)  # a repeated run starts afresh, it does not "resume" a finished one
        shape = list(result.model.shape)
        return {"checkpoint_id": checkpoint_id, "shape": shape, "steps": result.steps, "metrics": metrics}


def checkpoint_folder(checkpoint_id: str) -> Path:
    """Where the checkpoint of a joint memory lies."""
    return paths.checkpoints_dir() / checkpoint_id


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


def _notes(result: TrainingResult) -> Iterator[str]:
    """Lines about what was left out or cut."""
    if result.unplaced:
        yield f"{result.unplaced:,} targets were left out: their evidence stands in none of their documents"
    cut = [f"{n:,} {name}" for name, n in result.truncated.items() if n]
    if cut:
        yield f"cut to the configured lengths: {', '.join(cut)}"
