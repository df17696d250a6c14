"""Skill training of `zrag-tiny` as a job: from documents that are thrown away to a skill folder with its model card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from zrag_core.corpus.read import read_corpus
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.store.skill_folder import load_skill, save_skill
from zrag_core.model.training.process_group import ALONE, ProcessGroup
from zrag_core.settings import Settings, load_settings
from zrag_core.settings.backbone import TINY
from zrag_pipeline.defs.memory.training_job import HooksFor, Log, path_of, path_value, settings_values
from zrag_pipeline.defs.memory.training_log import training_metrics
from zrag_pipeline.platform import paths


@dataclass(frozen=True)
class SkillJob:
    """What a skill is made from.

    Attributes:
        start: folder of the skill that is trained on; None: random weights.
        folder: where it is written; its name is the skill's id.
    """

    kind: ClassVar[str] = "skill"

    settings: Settings
    start: Path | None
    folder: Path

    @property
    def processes(self) -> int:
        """How many of its own it has; calibration alone takes none."""
        return self.settings.skill.processes if self.settings.skill.steps else 0

    def values(self) -> dict[str, Any]:
        """The job as JSON."""
        return {
            "settings": settings_values(self.settings),
            "start": path_value(self.start),
            "folder": str(self.folder),
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The job that `values` came from."""
        return cls(load_settings(values["settings"]), path_of(values["start"]), Path(values["folder"]))

    def train(self, hooks: HooksFor, log: Log, group: ProcessGroup = ALONE) -> dict[str, Any] | None:
        """Train the skill, calibrate it, and write it to its folder.

        Returns:
            figures by name; None in all processes but the main one.
        """
        import torch

        from zrag_core.model.training.calibration import calibrate
        from zrag_core.model.training.everyday_calibration import add_everyday_judgement
        from zrag_core.model.training.skill_training import new_model, train_skill

        settings, source = self.settings, skill_source(self.settings)
        threads = settings.backbone.cpu_threads
        torch.set_num_threads(max(1, threads // group.size))
        if self.start is None:
            model = new_model(settings, source)
        else:
            loaded = load_skill(self.start, device=settings.backbone.device)
            model, own = loaded.model, loaded.settings
            settings = settings.model_copy(update={"separated": own.separated, "joint": own.joint})
        parameters = sum(p.numel() for p in model.parameters())
        log(f"learning from {source.name}: {parameters / 1e6:.2f} M parameters")
        fingerprint = self.folder.name.removeprefix("skill-")
        state = paths.skills_dir() / ".training" / fingerprint
        result = train_skill(model, source, settings.skill, fingerprint=fingerprint, hooks=hooks(state), group=group)
        if not group.is_main:
            return None
        torch.set_num_threads(threads)  # the others are done
        # A skill depends on what its fingerprint names, and so not on how this run reads and writes.
        alone = Settings(backbone=settings.backbone, separated=settings.separated, skill=settings.skill)
        found = calibrate(model, source, alone)
        metrics = {
            **training_metrics(result.steps, result.resumed_from, result.seconds, result.losses),
            **{f"skill_documents_{name}": value for name, value in asdict(found).items()},
        }
        if settings.skill.corpus is None:  # else it was just fitted on documents of the kind that are to be read
            found = add_everyday_judgement(model, alone, log)
            metrics |= {f"everyday_{name}": value for name, value in asdict(found).items()}
        self._save(model, settings, source, metrics)
        shutil.rmtree(state, ignore_errors=True)  # a repeated run finds the finished skill
        return metrics

    def _save(self, model: SeparatedMemory, settings: Settings, source: Any, metrics: dict[str, float]) -> None:
        name = self.folder.name
        card = model_card(name, settings, source.name, metrics)
        save_skill(self.folder, model, settings, skill_id=name, metrics=metrics, card=card, seen=source.content_hashes)


def skill_source(settings: Settings) -> Any:
    """Where a skill's documents come from: the generator, or the corpus that `skill.corpus` names."""
    from zrag_core.model.training.skill_data import AlmanacSkill, CorpusSkill

    skill = settings.skill
    if skill.corpus is None:
        return AlmanacSkill(skill.languages)
    location = {"format": "auto", "location": skill.corpus, "limit_documents": None}
    return CorpusSkill(read_corpus(settings.corpus.model_copy(update=location)))


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
