"""Model: the backbone, and the memory trained on it (a checkpoint folder)."""

from typing import Any

import dagster as dg

from zrag_pipeline import paths
from zrag_pipeline.assets.common import OWNERS, link, tracked
from zrag_pipeline.settings_resource import SettingsHandle
from zrag_pipeline.tracking import Tracking
from zrag_pipeline.warehouse import Warehouse

GROUP = "model"


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "huggingface"},
    code_version="1",
    description="The local LLM that training starts from: `zrag-tiny` with a tokenizer learned from the corpus and "
    "random weights, or the description of a Hugging Face causal LM (its weights are loaded by the training step).",
    deps=["evidence_audit"],
)
def backbone(
    context: dg.AssetExecutionContext,
    evidence_targets: dict[str, Any],
    settings: dg.ResourceParam[SettingsHandle],
    warehouse: dg.ResourceParam[Warehouse],
    tracking: dg.ResourceParam[Tracking],
):
    """Prepare the backbone; one that is pretrained is only looked at."""
    from zrag_pipeline.training import prepare_backbone

    loaded = settings.load()
    version = evidence_targets["corpus_version"]
    with tracked(context, tracking, loaded, sections=["backbone"], corpus_version=version) as run:
        prepared = prepare_backbone(loaded, warehouse, version, paths.data_dir() / "backbones")
        run.log_metrics(prepared.numbers)
    context.log.info(prepared.line)
    return dg.MaterializeResult(
        value={
            "corpus_version": version,
            "name": loaded.backbone.name,
            "folder": prepared.folder,
            "digest": prepared.digest,
        },
        metadata={"name": loaded.backbone.name, **prepared.numbers, **link(run)},
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "mlflow"},
    code_version="1",
    description="The checkpoint of policy `joint`: theta and Z trained together on the corpus, "
    "L = -log P(evidence | query, Z; theta), with self-study queries and shuffled reconstruction. "
    "A stopped run resumes where it was.",
)
def joint_memory(
    context: dg.AssetExecutionContext,
    backbone: dict[str, Any],
    evidence_targets: dict[str, Any],
    settings: dg.ResourceParam[SettingsHandle],
    warehouse: dg.ResourceParam[Warehouse],
    tracking: dg.ResourceParam[Tracking],
):
    """Train, with a progress line and step-wise curves in MLflow."""
    from zrag_pipeline.training import train_checkpoint

    loaded = settings.load()
    version = evidence_targets["corpus_version"]
    sections = ["corpus", "targets", "backbone", "memory", "training"]
    with tracked(context, tracking, loaded, sections=sections, corpus_version=version) as run:
        run.log_dataset(evidence_targets["name"], version, {}, source=evidence_targets["source"], context="training")
        made = train_checkpoint(loaded, warehouse, version, backbone, run, context.log.info)
        run.log_metrics(made.metrics)
        run.log_figure(made.curves, "training_curves.png")
        registered = tracking.register(run, "zrag-joint", made.folder, tags={"corpus_version": version})
    return dg.MaterializeResult(
        value={
            "corpus_version": version,
            "questions_version": evidence_targets["questions_version"],
            "checkpoint_id": made.checkpoint_id,
            "folder": str(made.folder),
            "params": made.params,
        },
        metadata={
            "checkpoint_id": made.checkpoint_id,
            "folder": dg.MetadataValue.path(str(made.folder)),
            "memory_shape": " x ".join(map(str, made.shape)),
            "numbers_per_document": made.shape[1] * made.shape[2],
            "registered_model": f"zrag-joint version {registered}",
            "training_curves": made.curves_markdown,
            **made.metrics,
            **link(run),
        },
        data_version=dg.DataVersion(made.digest),
    )


ASSETS = [backbone, joint_memory]
