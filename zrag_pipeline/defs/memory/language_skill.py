"""The skill of a pretrained LLM as the pipeline makes it: trained on prose, or calibrated on another corpus."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zrag_core.corpus.types import Corpus
from zrag_core.model.store.skill_folder import load_skill, save_skill
from zrag_core.settings import Settings, TargetSettings
from zrag_pipeline.defs.memory.training_log import TrainingLog
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.peak_memory import peak_memory


@dataclass(frozen=True)
class LanguageSource:
    """What the skill is made from: a corpus, or (None) the prose of installed packages.

    Attributes:
        content_hashes: of the corpus' documents, which a memory must not hold.
    """

    name: str
    corpus: Corpus | None
    content_hashes: frozenset[str] = frozenset()


def language_source(settings: Settings) -> LanguageSource:
    """The source that `skill.corpus` names."""
    from zrag_core.corpus.prose.asked import written_version
    from zrag_core.corpus.prose.sources import prose_name
    from zrag_core.corpus.read import read_corpus
    from zrag_core.corpus.version import corpus_version

    if settings.skill.corpus is None:
        return LanguageSource(f"prose of {prose_name()}; written documents {written_version()}", None)
    location = {"format": "auto", "location": settings.skill.corpus, "limit_documents": None}
    corpus = read_corpus(settings.corpus.model_copy(update=location))
    hashes = frozenset(document.content_hash for document in corpus.documents)
    return LanguageSource(f"{corpus.name} {corpus_version(corpus.documents)}", corpus, hashes)


def make_language_skill(
    settings: Settings, source: LanguageSource, start: Path | None, folder: Path, progress: TrainingLog
) -> dict[str, float]:
    """Train the skill from the pretrained LLM, or go on from a shipped one, and write it to `folder`.

    Returns:
        figures by name.
    """
    import torch

    from zrag_core.model.architecture.create_backbone import create_backbone
    from zrag_core.model.architecture.create_memory import create_separated
    from zrag_core.model.training.language_skill import (
        calibrate_on_prose,
        refit_language_skill,
        train_language_skill,
    )

    torch.set_num_threads(settings.backbone.cpu_threads)
    state = paths.skills_dir() / ".training" / folder.name
    if start is None:
        model: Any = create_separated(create_backbone(settings.backbone, (), seed=settings.skill.seed), settings)
    else:
        loaded = load_skill(start, device=settings.backbone.device)
        model = loaded.model
        settings = settings.model_copy(update={"codec": loaded.settings.codec})
    if settings.skill.start == "refit":
        metrics = refit_language_skill(model, settings, progress.log)
    elif source.corpus is None:
        metrics = train_language_skill(
            model, settings, state, lambda stage: progress.hooks(state / stage), progress.log
        )
    else:
        documents, asked = _asked(source.corpus)
        metrics = calibrate_on_prose(model, documents, asked, settings, progress.log)
    metrics["peak_memory_gb"] = peak_memory()
    card = language_card(folder.name, settings, source, metrics)
    save_skill(folder, model, settings, skill_id=folder.name, metrics=metrics, card=card, seen=source.content_hashes)
    shutil.rmtree(state, ignore_errors=True)  # a repeated run finds the finished skill
    return metrics


def _asked(corpus: Corpus) -> tuple[list[Any], list[Any]]:
    from zrag_core.corpus.prose.asked import AskedSentence
    from zrag_core.corpus.targets import build_targets

    targets = build_targets(corpus, TargetSettings(self_study_per_sentence=0), 0)
    asked = [AskedSentence(t.query, t.document_ids[0], t.evidence) for t in targets if len(t.document_ids) == 1]
    return list(corpus.documents), asked


def language_card(skill_id: str, settings: Settings, source: LanguageSource, metrics: Mapping[str, float]) -> str:
    """The skill's README: what it is, how it was made, how it did on documents that it had not seen."""
    from zrag_core.corpus.prose.sources import SOURCES
    from zrag_core.model.architecture.packaged_llms import PACKAGED

    name = settings.backbone.name
    job, packaged = f"pretrain_{name}", PACKAGED.get(name)
    llm = f"{packaged.title} ({packaged.licence})" if packaged else f"`{name}`"
    codec, skill, lora = settings.codec, settings.skill, settings.backbone.lora
    adapter = (
        f"an adapter (LoRA, rank {lora.rank}, on {', '.join(lora.target_modules)}) that reads slots"
        if skill.steps
        else "no adapter"
    )
    licences = "\n".join(f"  - {item.package}: {item.licence}" for item in SOURCES) if source.corpus is None else ""
    figures = "\n".join(f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in sorted(metrics.items()))
    return f"""# {skill_id}

The skill of a zRAG memory for the pretrained LLM `{settings.backbone.name}`: a codec of {codec.stride} tokens to a slot
of {codec.width} bytes, {adapter}, and keys of meaning of {codec.key_width} bytes a sentence. It holds no corpus.

- **LLM**: {llm}, which is not in this folder
- **Data**: {source.name}
{licences}
- **Questions** come with documents that a larger LLM wrote for this project (`zrag_core/corpus/prose`), are about the
  prose and from the same source, are written by the LLM itself (where it follows instructions), belong to generated
  documents, or are words of the sentence (self-study); calibration asks only the first two kinds, about texts that
  adapter and keys did not see
- **Keys** are distilled from all-MiniLM-L6-v2 (Apache-2.0), which is not needed afterwards
- **Recipe**: codec {codec.steps:,} steps of {codec.batch_size} slots, AdamW {codec.lr}; reading {skill.steps:,} steps
  of {skill.documents} examples, AdamW {skill.lr}; seeds {codec.seed} and {skill.seed}
- **Command**: `dagster job execute -m zrag_pipeline.definitions -j {job} -c dagster_home/configs/{job}.yaml`

| figure, on prose that it was not fitted on | |
|---|---|
{figures}

Limits: it reads the languages of its LLM (SmolLM2: English; Gemma 3 as it is kept here: Korean and English). Figures on
evaluated corpora are in docs/results.md.
"""
