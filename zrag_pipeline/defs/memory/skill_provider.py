"""The skill as the pipeline makes it: taken as shipped, or trained with its curves and its model card."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zrag_core.errors import SettingsError
from zrag_core.model.store.checkpoint import checkpoint_digest
from zrag_core.model.store.skill_folder import (
    is_shipped,
    load_skill,
    read_skill_config,
    save_skill,
    shipped_skill,
)
from zrag_core.model.store.stored_settings import read_settings
from zrag_core.settings import Settings
from zrag_core.settings.backbone import SMOLLM2, TINY
from zrag_pipeline.defs.memory.language_skill import TrainedSkill, language_source, make_language_skill
from zrag_pipeline.defs.memory.training_log import TrainingLog, training_metrics
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


def provide_skill(settings: Settings, run: TrackedRun, log: Callable[[str], None]) -> MadeSkill:
    """The shipped skill as it is; or one trained or calibrated now, or found finished in the data folder.

    Raises:
        SettingsError: no skill is shipped for this backbone, and none is to be trained; or its slots are others.
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
    source = language_source(settings) if language else _source(settings)
    origin = "" if start is None else checkpoint_digest(start)
    fingerprint = skill_fingerprint(settings, f"{source.name} {origin}")
    folder = paths.skills_dir() / f"skill-{fingerprint}"
    if (folder / "config.json").is_file():
        return _known(folder, "made before with the same settings")
    make = make_language_skill if language else _make
    made = make(settings, source, start, folder, TrainingLog(run, log, _POINTS, _POINTS_PER_LINE))
    reference = SkillReference(folder.name, folder, checkpoint_digest(folder))
    return MadeSkill(reference, made.metrics, made.curves, f"{folder.name}: made from {source.name}")


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


def _source(settings: Settings) -> Any:
    from zrag_core.corpus.read import read_corpus
    from zrag_core.model.training.skill_data import AlmanacSkill, CorpusSkill

    skill = settings.skill
    if skill.corpus is None:
        return AlmanacSkill(skill.languages)
    location = {"format": "auto", "location": skill.corpus, "limit_documents": None}
    return CorpusSkill(read_corpus(settings.corpus.model_copy(update=location)))


def _make(settings: Settings, source: Any, start: Path | None, folder: Path, progress: TrainingLog) -> TrainedSkill:
    import torch

    from zrag_core.model.training.calibration import calibrate
    from zrag_core.model.training.everyday_calibration import add_everyday_judgement
    from zrag_core.model.training.skill_training import new_model, train_skill

    torch.set_num_threads(settings.backbone.cpu_threads)
    if start is None:
        model = new_model(settings, source)
    else:
        loaded = load_skill(start, device=settings.backbone.device)
        model, own = loaded.model, loaded.settings
        settings = settings.model_copy(update={"separated": own.separated, "joint": own.joint})
    parameters = sum(p.numel() for p in model.parameters())
    progress.log(f"learning from {source.name}: {parameters / 1e6:.2f} M parameters")
    fingerprint = folder.name.removeprefix("skill-")
    state = paths.skills_dir() / ".training" / fingerprint
    result = train_skill(model, source, settings.skill, fingerprint=fingerprint, hooks=progress.hooks(state))
    # A skill depends on what its fingerprint names, and so not on how this run reads and writes.
    alone = Settings(backbone=settings.backbone, separated=settings.separated, skill=settings.skill)
    found = calibrate(model, source, alone)
    metrics = {
        **training_metrics(result.steps, result.resumed_from, result.seconds, result.losses),
        **{f"skill_documents_{name}": value for name, value in asdict(found).items()},
    }
    if settings.skill.corpus is None:  # else it was just fitted on documents of the kind that are to be read
        found = add_everyday_judgement(model, alone, progress.log)
        metrics |= {f"everyday_{name}": value for name, value in asdict(found).items()}
    card = model_card(folder.name, settings, source.name, metrics)
    save_skill(folder, model, settings, skill_id=folder.name, metrics=metrics, card=card, seen=source.content_hashes)
    shutil.rmtree(state, ignore_errors=True)  # a repeated run finds the finished skill
    return TrainedSkill(metrics, progress.curves())


def model_card(skill_id: str, settings: Settings, source: str, metrics: Mapping[str, float]) -> str:
    """The skill's README: what it is, how it was made, how it did on documents that it had not seen."""
    memory, tiny, skill = settings.separated, settings.backbone.tiny, settings.skill
    size = (
        f"Qwen3 architecture, hidden size {tiny.hidden_size}, {tiny.layers} layers, {tiny.heads} heads, "
        f"{tiny.vocabulary:,} byte-level BPE tokens"
        if settings.backbone.name == TINY
        else f"LoRA adapter of {settings.backbone.name}, rank {settings.backbone.lora.rank}"
    )
    losses = [f"{name.removeprefix('final_loss_')} {value:.3f}" for name, value in metrics.items() if "loss_" in name]
    trained = (
        f"- **Training**: {metrics['training_seconds'] / 60:.0f} minutes; losses at the end, in nats per token "
        f"(routing: per query): {', '.join(losses)}"
        if skill.steps
        else "- **Training**: none; the shipped skill with its judgement calibrated on the data above"
    )
    return f"""# {skill_id}

The skill of a zRAG memory: a language model that writes a document into {memory.slots} slots of {memory.width}
numbers, routes questions to documents, and reads evidence from slots. It holds no corpus: every document that it was
trained on was thrown away after its step.

- **Backbone**: {size}
- **Memory**: {memory.slots} x {memory.width} numbers per document, keys of {memory.key_width} a sentence
- **Data**: {source}, generated or read afresh in every step; nothing else
- **Recipe**: {skill.steps:,} steps of {skill.documents} documents with {skill.questions} questions each; evidence,
  finding (weight {skill.finding_weight}), reconstruction (weight {skill.reconstruction_weight}) and routing (weight
  {skill.routing_weight}) losses; AdamW {skill.lr}, Muon {skill.lr_matrices}; seed {skill.seed}
- **Command**: `dagster job execute -m zrag_pipeline.definitions -j pretrain_tiny -c dagster_home/configs/\
pretrain_tiny.yaml`, with these settings
- **On fresh documents of the same source** (64, encoder alone, phrasings never trained, two-hop questions among them):
  recall@1 {metrics["skill_documents_recall_at_1"]:.3f}, best sentence right
  {metrics["skill_documents_sentence_top1"]:.3f}, AUROC of the confidence {metrics["skill_documents_auroc"]:.3f}
{trained}

Limits: a model of this size reads documents like those that it was trained on. Figures on evaluated corpora are in
the repository's README.
"""
