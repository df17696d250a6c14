"""Training as the pipeline runs it: from warehouse rows to a checkpoint folder with its curves."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.errors import CheckpointError, SettingsError
from zrag_core.files import atomic_folder
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.create_backbone import create_backbone, load_backbone
from zrag_core.model.architecture.packaged_llms import location_of
from zrag_core.model.store.checkpoint import checkpoint_digest, save_checkpoint
from zrag_core.model.training.joint_training import train_joint, training_fingerprint
from zrag_core.settings import Settings
from zrag_core.settings.backbone import TINY
from zrag_pipeline.defs.memory.training_log import TrainingLog, training_metrics
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.handles import BackboneHandle, CheckpointReference, Params
from zrag_pipeline.platform.tracking import TrackedRun
from zrag_pipeline.platform.warehouse import Warehouse

# Points of the curves in MLflow, and every how many of them a line on the terminal.
_POINTS = 60
_POINTS_PER_LINE = 3


@dataclass(frozen=True)
class PreparedBackbone:
    """Where the initial weights are (None: on the hub or in their own folder) and what they are.

    Attributes:
        digest: of everything that the initial weights depend on; the checkpoint's training compares it.
    """

    folder: Path | None
    digest: str
    numbers: dict[str, int]
    line: str


@dataclass(frozen=True)
class MadeCheckpoint:
    """A checkpoint that was just written; `params` are what tells it from others when systems are compared."""

    checkpoint: CheckpointReference
    shape: tuple[int, ...]
    digest: str
    metrics: dict[str, float]
    curves: bytes | None
    params: Params


def prepare_backbone(settings: Settings, warehouse: Warehouse, corpus_version: str, folder: Path) -> PreparedBackbone:
    """Make and store the embedded backbone's initial weights, or look a pretrained model up.

    Raises:
        SettingsError: the pretrained model cannot be found.
    """
    if settings.backbone.name != TINY:
        return _describe_pretrained(settings)
    corpus = warehouse.load_corpus(corpus_version)
    texts = tokenizer_texts(corpus.documents, warehouse.load_targets(corpus_version))
    backbone = create_backbone(settings.backbone, texts, seed=settings.joint.seed)
    digest = backbone_digest(settings, texts)
    target = folder / f"{TINY}-{digest}"
    with atomic_folder(target) as temporary:
        backbone.save(temporary)
    numbers = {
        "parameters": sum(p.numel() for p in backbone.lm.parameters()),
        "vocabulary": len(backbone.tokenizer),
        "hidden_size": backbone.hidden_size,
        "layers": settings.backbone.tiny.layers,
    }
    line = f"{TINY}: {numbers['parameters'] / 1e6:.2f} M parameters, {numbers['vocabulary']:,} tokens"
    return PreparedBackbone(target, digest, numbers, line)


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


def train_checkpoint(
    settings: Settings,
    warehouse: Warehouse,
    corpus_version: str,
    prepared: BackboneHandle,
    run: TrackedRun,
    log: Callable[[str], None],
) -> MadeCheckpoint:
    """Train the joint policy and write its checkpoint.

    Progress goes to `log` about twenty times, losses to `run` as step-wise curves.

    Raises:
        CheckpointError: the prepared backbone belongs to other settings or another corpus.
    """
    documents = warehouse.load_corpus(corpus_version).documents
    targets = warehouse.load_targets(corpus_version)
    texts = tokenizer_texts(documents, targets) if settings.backbone.name == TINY else []
    backbone = _prepared(settings, prepared, texts)
    fingerprint = training_fingerprint(documents, targets, settings)
    checkpoint_id = f"joint-{fingerprint}"
    folder = paths.checkpoints_dir() / checkpoint_id
    state = paths.checkpoints_dir() / ".training" / fingerprint
    progress = TrainingLog(run, log, _POINTS, _POINTS_PER_LINE)
    result = train_joint(documents, targets, backbone, settings, hooks=progress.hooks(state))
    if result.unplaced:
        log(f"{result.unplaced:,} targets were left out: their evidence stands in none of their documents")
    cut = {name: n for name, n in result.truncated.items() if n}
    if cut:
        log("cut to the configured lengths: " + ", ".join(f"{n:,} {name}" for name, n in cut.items()))
    metrics = {
        **training_metrics(result.steps, result.resumed_from, result.seconds, result.losses),
        "targets_left_out": result.unplaced,
        **({} if result.dev_loss is None else {"dev_loss_evidence": result.dev_loss}),
    }
    save_checkpoint(folder, result.model, documents, settings, checkpoint_id=checkpoint_id, metrics=metrics)
    shutil.rmtree(state, ignore_errors=True)  # a repeated run starts afresh, it does not "resume" a finished one
    return MadeCheckpoint(
        CheckpointReference(checkpoint_id, folder, corpus_version),
        result.model.shape,
        checkpoint_digest(folder),
        metrics,
        progress.curves(),
        {
            "policy": result.model.policy,
            "backbone": settings.backbone.name,
            "m": settings.joint.slots,
            "d": settings.joint.width,
            "training_steps": result.steps,
        },
    )


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


def _describe_pretrained(settings: Settings) -> PreparedBackbone:
    from transformers import AutoConfig

    name = settings.backbone.name
    location = location_of(name)
    try:
        config = AutoConfig.from_pretrained(location)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"cannot find the backbone '{name}' ({str(error).splitlines()[0]})",
            where="backbone.name",
            remedy="give a Hugging Face causal LM that this machine can reach, a local folder, or zrag-tiny",
        ) from error
    numbers = {
        "vocabulary": config.vocab_size,
        "hidden_size": config.hidden_size,
        "layers": config.num_hidden_layers,
    }
    return PreparedBackbone(None, backbone_digest(settings, []), numbers, f"{name}: {json.dumps(numbers)}")
