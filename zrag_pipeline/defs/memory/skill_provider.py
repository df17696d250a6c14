"""The skill as the pipeline makes it: taken as shipped, or trained with its curves and its model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from zrag_core.errors import SettingsError
from zrag_core.model.store.checkpoint import checkpoint_digest
from zrag_core.model.store.skill_folder import is_shipped, read_skill_config, shipped_skill
from zrag_core.model.store.stored_settings import read_settings
from zrag_core.settings import Settings
from zrag_core.settings.backbone import SMOLLM2, TINY
from zrag_pipeline.defs.memory.language_skill import language_source, make_language_skill
from zrag_pipeline.defs.memory.skill_job import SkillJob, skill_source
from zrag_pipeline.defs.memory.training_launch import refuse_processes, train_job
from zrag_pipeline.defs.memory.training_log import TrainingLog
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.handles import SkillReference
from zrag_pipeline.platform.tracking import TrackedRun

_POINTS = 200
_POINTS_PER_LINE = 5


_TINY_SHAPE = ("slots", "width", "stride", "key_width")
_CODEC_SHAPE = ("stride", "width", "inner", "key_width")


@dataclass(frozen=True)
class MadeSkill:
    """A skill folder, new or old, and what is known of it."""

    skill: SkillReference
    metrics: dict[str, float]
    curves: bytes | None
    line: str


def provide_skill(settings: Settings, run: TrackedRun, context: dg.AssetExecutionContext) -> MadeSkill:
    """The shipped skill as it is; or one trained or calibrated now, or found finished in the data folder.

    Raises:
        SettingsError: no skill is shipped for this backbone, and none is to be trained; or its slots are others.
        TrainingError: the processes of its own that trained it ended early.
    """
    start = _start(settings)
    as_it_is = settings.skill.steps == 0 and settings.skill.corpus is None and settings.skill.start != "refit"
    if as_it_is and start is not None:
        return _known(start, "shipped with the package")
    if start is not None:  # its architecture goes on, whatever the settings say
        own = read_settings(read_skill_config(start)["settings"]).backbone
        backbone = settings.backbone.model_copy(update={"tiny": own.tiny, "lora": own.lora})
        settings = settings.model_copy(update={"backbone": backbone})
    from zrag_core.model.training.skill_training import skill_fingerprint

    language = settings.backbone.name != TINY
    source = language_source(settings) if language else skill_source(settings)
    origin = "" if start is None else checkpoint_digest(start)
    fingerprint = skill_fingerprint(settings, f"{source.name} {origin}")
    folder = paths.skills_dir() / f"skill-{fingerprint}"
    if (folder / "config.json").is_file():
        return _known(folder, "made before with the same settings")
    progress = TrainingLog(run, context.log.info, _POINTS, _POINTS_PER_LINE)
    if language:
        refuse_processes(settings)
        metrics = make_language_skill(settings, source, start, folder, progress)
    else:
        metrics = train_job(SkillJob(settings, start, folder), progress, context)
    reference = SkillReference(folder.name, folder, checkpoint_digest(folder))
    return MadeSkill(reference, metrics, progress.curves(), f"{folder.name}: made from {source.name}")


def _start(settings: Settings) -> Path | None:
    """Folder of the skill that is taken or trained on; None: random weights (or the base model of a LoRA adapter)."""
    skill, backbone = settings.skill, settings.backbone.name
    shipped = is_shipped(backbone) and skill.start != "scratch"
    heads_alone = backbone != TINY and skill.start == "scratch"  # a pretrained LLM reads without an adapter too
    if skill.steps == 0 and not shipped and not heads_alone:
        raise SettingsError(
            "random weights are no skill" if is_shipped(backbone) else f"no skill is shipped for '{backbone}'",
            where="skill.steps",
            remedy=f"set it above 0 to train one, or use the backbone {TINY} or {SMOLLM2} with skill.start auto",
        )
    if not shipped:
        return None
    own, given = read_settings(read_skill_config(shipped_skill(backbone))["settings"]), settings
    section, names = ("separated", _TINY_SHAPE) if backbone == TINY else ("codec", _CODEC_SHAPE)
    asked = getattr(given, section)
    # What nobody set is the skill's: every backbone has slots of its own shape.
    named = [name for name in names if backbone == TINY or name in asked.model_fields_set]
    pairs = ((name, getattr(getattr(own, section), name), getattr(asked, name)) for name in named)
    differing = [f"{section}.{name} {before} (given: {now})" for name, before, now in pairs if before != now]
    if differing:
        raise SettingsError(
            f"the shipped skill of {backbone} has {', '.join(differing)}",
            where=section,
            remedy="use these values, or train another skill (skill.start scratch and skill.steps above 0)",
        )
    return shipped_skill(backbone)


def _known(folder: Path, why: str) -> MadeSkill:
    import json

    skill_id = read_skill_config(folder)["skill_id"]
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return MadeSkill(SkillReference(skill_id, folder, checkpoint_digest(folder)), metrics, None, f"{skill_id}: {why}")
