"""Training as the pipeline runs it: from warehouse rows to a checkpoint folder with its curves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from zrag_core.errors import SettingsError
from zrag_core.files import atomic_folder
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.architecture.joint_memory import JointMemory
from zrag_core.model.architecture.packaged_llms import location_of
from zrag_core.model.store.checkpoint import checkpoint_digest
from zrag_core.settings import Settings
from zrag_core.settings.backbone import TINY
from zrag_pipeline.defs.memory.joint_job import JointJob, backbone_digest, checkpoint_folder, tokenizer_texts
from zrag_pipeline.defs.memory.training_launch import train_job
from zrag_pipeline.defs.memory.training_log import TrainingLog
from zrag_pipeline.platform.handles import CheckpointReference, Params
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


def train_checkpoint(job: JointJob, run: TrackedRun, context: dg.AssetExecutionContext) -> MadeCheckpoint:
    """Train the joint policy and write its checkpoint, in this process or, as `joint.processes` has it, in others.

    Progress goes to Dagster's log about twenty times, losses to `run` as step-wise curves.

    Raises:
        CheckpointError: the prepared backbone belongs to other settings or another corpus.
        TrainingError: the processes ended early.
    """
    settings = job.settings
    progress = TrainingLog(run, context.log.info, _POINTS, _POINTS_PER_LINE)
    made = train_job(job, progress, context)
    folder = checkpoint_folder(made["checkpoint_id"])
    return MadeCheckpoint(
        CheckpointReference(made["checkpoint_id"], folder, job.corpus_version),
        tuple(made["shape"]),
        checkpoint_digest(folder),
        made["metrics"],
        progress.curves(),
        {
            "policy": JointMemory.policy,
            "backbone": settings.backbone.name,
            "m": settings.joint.slots,
            "d": settings.joint.width,
            "training_steps": made["steps"],
        },
    )


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
