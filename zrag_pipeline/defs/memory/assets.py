"""Model: the skill and the memory written with it (policy `separated`); the backbone and the memory trained with it
(policy `joint`). Memories are checkpoint folders."""

import dagster as dg

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.asset_helpers import PlatformParam, image, is_update, lineage_asset, link
from zrag_pipeline.platform.handles import BackboneHandle, CorpusHandle, MemoryHandle, SkillHandle
from zrag_pipeline.platform.model_registry import JOINT_MODEL, MODEL, ModelRegistry
from zrag_pipeline.platform.tracking import TrackedRun

GROUP = "model"
_NO_SKILL = "policy joint alone: no skill is needed"
_NOT_UPDATED = "left out: an update writes documents into Z, and a memory of the policy joint cannot be updated"


@lineage_asset(
    GROUP,
    "pytorch",
    "huggingface",
    description="The local LLM that training starts from: `zrag-tiny` with a tokenizer learned from the corpus and "
    "random weights, or the description of a Hugging Face causal LM (its weights are loaded by the training step).",
    deps=["evidence_audit"],
)
def backbone(
    context: dg.AssetExecutionContext,
    evidence_targets: CorpusHandle,
    platform: PlatformParam,
):
    """Prepare the backbone, where joint training follows; one that is pretrained is only looked at."""
    from zrag_pipeline.defs.memory.joint_memory import prepare_backbone

    settings = platform.settings
    version = evidence_targets.corpus_version
    if is_update(context):
        context.log.info(_NOT_UPDATED)
        return dg.MaterializeResult(value=BackboneHandle(left_out=_NOT_UPDATED))
    with platform.tracked(context, "backbone", corpus_version=version) as run:
        prepared = prepare_backbone(settings, platform.warehouse, version, paths.data_dir() / "backbones")
        run.log_metrics(prepared.numbers)
    context.log.info(prepared.line)
    return dg.MaterializeResult(
        value=BackboneHandle(prepared.digest, prepared.folder),
        metadata={"name": settings.backbone.name, **prepared.numbers, **link(run)},
    )


@lineage_asset(
    GROUP,
    "pytorch",
    "mlflow",
    description="Theta of policy `separated`: the skill of writing, routing and reading, learned on documents that are "
    "thrown away after their step. Taken as shipped with `zrag-tiny` where `skill.steps` is 0. It never sees the "
    "corpus, and so does not depend on it.",
    deps=["preflight"],
)
def skill(
    context: dg.AssetExecutionContext,
    platform: PlatformParam,
):
    """Provide the skill; where it is trained, with a progress line and step-wise curves in MLflow."""
    from zrag_pipeline.defs.memory.skill_provider import provide_skill

    settings = platform.settings
    if settings.memory.policy == "joint":
        context.log.info(_NO_SKILL)
        return dg.MaterializeResult(value=SkillHandle(left_out=_NO_SKILL))
    with platform.tracked(context, "backbone", "separated", "skill") as run:
        made = provide_skill(settings, run, context)
        run.log_metrics(made.metrics)
        curves = _log_curves(run, made.curves)
    context.log.info(made.line)
    return dg.MaterializeResult(
        value=SkillHandle(made.skill),
        metadata={
            "skill_id": made.skill.skill_id,
            "folder": dg.MetadataValue.path(str(made.skill.folder)),
            "model_card": dg.MetadataValue.md((made.skill.folder / "README.md").read_text(encoding="utf-8")),
            **curves,
            **made.metrics,
            **link(run),
        },
        data_version=dg.DataVersion(made.skill.digest),
    )


@lineage_asset(
    GROUP,
    "pytorch",
    "mlflow",
    description="The checkpoint of policy `separated`: every document written into its own row of Z, theta frozen, by "
    "one forward pass and gradient steps on its slots alone. The job `update_memory` starts from the former "
    "checkpoint, which stays for roll-back: only rows of new and changed documents are written.",
    deps=["evidence_audit"],
)
def memory(
    context: dg.AssetExecutionContext,
    skill: SkillHandle,
    evidence_targets: CorpusHandle,
    platform: PlatformParam,
):
    """Write the corpus, or what has changed of it."""
    from zrag_pipeline.defs.memory.separated_memory import write_memory

    settings = platform.settings
    version = evidence_targets.corpus_version
    made_under = version, evidence_targets.questions_version
    if skill.skill is None:
        context.log.info(f"no memory is written: {skill.left_out}")
        return dg.MaterializeResult(value=MemoryHandle(*made_under, left_out=skill.left_out))
    with platform.tracked(context, "corpus", "targets", "writing", "engine", corpus_version=version) as run:
        run.log_dataset(evidence_targets.name, version, {}, source=evidence_targets.source, context="writing")
        made = write_memory(
            settings, platform.warehouse, version, skill.skill, context.log.info, update=is_update(context)
        )
        run.log_metrics(made.metrics)
        registered = ModelRegistry(platform.tracking).register(run, MODEL, made.checkpoint)
    return dg.MaterializeResult(
        value=MemoryHandle(*made_under, made.checkpoint, made.params, made.former),
        metadata={
            "checkpoint_id": made.checkpoint.checkpoint_id,
            **({} if made.former is None else {"updated_from": made.former.checkpoint_id}),
            "folder": dg.MetadataValue.path(str(made.checkpoint.folder)),
            "memory_shape": " x ".join(map(str, made.shape)),
            "numbers_per_document": made.numbers_per_document,
            "registered_model": f"{MODEL} version {registered}",
            **made.metrics,
            **link(run),
        },
        data_version=dg.DataVersion(made.digest),
    )


@lineage_asset(
    GROUP,
    "pytorch",
    "mlflow",
    description="The checkpoint of policy `joint`: theta and Z trained together on the corpus, "
    "L = -log P(evidence | query, Z; theta), with self-study queries and shuffled reconstruction. "
    "A stopped run resumes where it was.",
)
def joint_memory(
    context: dg.AssetExecutionContext,
    backbone: BackboneHandle,
    evidence_targets: CorpusHandle,
    platform: PlatformParam,
):
    """Train, with a progress line and step-wise curves in MLflow; only where a system of the run reads it."""
    from zrag_core.systems import policies_read
    from zrag_pipeline.defs.memory.joint_job import JointJob
    from zrag_pipeline.defs.memory.joint_memory import train_checkpoint

    settings = platform.settings
    version = evidence_targets.corpus_version
    made_under = version, evidence_targets.questions_version
    if is_update(context) or "joint" not in policies_read(settings):
        reason = _NOT_UPDATED if is_update(context) else "not trained: no system of this run reads it"
        context.log.info(reason)
        return dg.MaterializeResult(value=MemoryHandle(*made_under, left_out=reason))
    sections = ["corpus", "targets", "backbone", "joint"]
    with platform.tracked(context, *sections, corpus_version=version) as run:
        run.log_dataset(evidence_targets.name, version, {}, source=evidence_targets.source, context="training")
        made = train_checkpoint(JointJob(settings, platform.warehouse.path, version, backbone), run, context)
        run.log_metrics(made.metrics)
        curves = _log_curves(run, made.curves)
        registered = ModelRegistry(platform.tracking).register(run, JOINT_MODEL, made.checkpoint)
    return dg.MaterializeResult(
        value=MemoryHandle(*made_under, made.checkpoint, made.params),
        metadata={
            "checkpoint_id": made.checkpoint.checkpoint_id,
            "folder": dg.MetadataValue.path(str(made.checkpoint.folder)),
            "memory_shape": " x ".join(map(str, made.shape)),
            "numbers_per_document": made.shape[1] * made.shape[2],
            "registered_model": f"{JOINT_MODEL} version {registered}",
            **curves,
            **made.metrics,
            **link(run),
        },
        data_version=dg.DataVersion(made.digest),
    )


def _log_curves(run: TrackedRun, curves: bytes | None) -> dict[str, dg.MetadataValue]:
    """Keep the training curves in MLflow, and return them as metadata; nothing where nothing was trained."""
    if curves is None:
        return {}
    run.log_figure(curves, "training_curves.png")
    return {"training_curves": image(curves, "training curves")}


ASSETS = [backbone, skill, memory, joint_memory]
