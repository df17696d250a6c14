"""Everything that can be known to be wrong before anything expensive starts, found in one pass."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from zrag_core.errors import ProblemList, ZragError
from zrag_core.settings import Settings
from zrag_pipeline import paths
from zrag_pipeline.settings_resource import SettingsHandle

_GB = 1024**3
_TINY = "zrag-tiny"
# Weights above this many billion parameters are hopeless on a CPU, quantised or not.
_CPU_LIMIT_B = 2.0


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
        problems.extend(_disk(folder))
    try:
        settings = given.load()
    except ZragError as error:
        wrong = error.problems if isinstance(error, ProblemList) else [str(error)]
        problems = [*wrong, *problems]
        settings = given.sound_part()
    problems.extend(_corpus(settings))
    problems.extend(_backbone(settings))
    problems.extend(_dense(settings, environ))
    problems.extend(_reader(settings, environ))
    return problems


def _disk(folder: Path) -> Iterator[str]:
    free = shutil.disk_usage(folder).free
    if free < _GB:
        yield f"{folder}: {free / _GB:.1f} GB free, 1 GB is needed -> free some space or set ZRAG_DATA_DIR"


def _corpus(settings: Settings) -> Iterator[str]:
    corpus = settings.corpus
    if corpus.format == "almanac":
        return
    location = str(corpus.location)
    path = Path(location).expanduser()
    looks_like_a_path = path.is_absolute() or location.startswith((".", "~")) or location.count("/") > 1
    if not path.exists() and (looks_like_a_path or corpus.format not in ("auto", "huggingface")):
        yield f"corpus.location: no such file or folder: {location} -> check the path (ZRAG_CORPUS where it is used)"


def _backbone(settings: Settings) -> Iterator[str]:
    import torch

    backbone = settings.backbone
    has_gpu = torch.cuda.is_available()
    if backbone.device == "cuda" and not has_gpu:
        yield "backbone.device: no CUDA device is available -> set it to cpu, or run on a GPU machine"
    if backbone.name == _TINY:
        if backbone.quantization != "none":
            yield "backbone.quantization: zrag-tiny is trained as a whole, which 4-bit weights cannot be -> use none"
        if backbone.tiny.hidden_size % backbone.tiny.heads:
            yield (
                f"backbone.tiny.hidden_size: {backbone.tiny.hidden_size} is not a multiple of "
                f"{backbone.tiny.heads} heads -> choose a multiple"
            )
        return
    size = billions(backbone.name)
    if size is not None and size > _CPU_LIMIT_B and (not has_gpu or backbone.device == "cpu"):
        yield (
            f"backbone.name: {backbone.name} has {size:g} billion parameters and there is no GPU to run it on "
            "-> run on a GPU machine, or choose a smaller model (zrag-tiny, Qwen/Qwen3-0.6B)"
        )
    looks_like_a_path = backbone.name.startswith(("/", "./", "../", "~"))
    if looks_like_a_path and not (Path(backbone.name).expanduser() / "config.json").is_file():
        yield f"backbone.name: no model (config.json) in {backbone.name} -> check the path"


def billions(name: str) -> float | None:
    """Parameters in billions as a model's name tells them ("Qwen/Qwen3-8B" -> 8.0), or None."""
    found = re.search(r"(?:^|[-_/])(\d+(?:\.\d+)?)b(?:$|[-_])", name.lower())
    return float(found.group(1)) if found else None


def _dense(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    if not {"dense", "hybrid"} & set(settings.evaluation.systems):
        return
    encoder = settings.baselines.dense_encoder
    if encoder.startswith("openai:"):
        if not environ.get("OPENAI_API_KEY"):
            yield ("baselines.dense_encoder: OPENAI_API_KEY is not set -> export it, or use the offline encoder 'lsa'")
    elif encoder != "lsa" and importlib.util.find_spec("sentence_transformers") is None:
        yield "baselines.dense_encoder: sentence-transformers is not installed -> pip install 'zrag[dense]'"


def _reader(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    answers = settings.answers
    needs_key = answers.reader == "openai" and not (answers.base_url or environ.get("OPENAI_BASE_URL"))
    if needs_key and not environ.get(answers.api_key_env):
        yield (
            f"answers.reader: openai needs a key and {answers.api_key_env} is not set "
            f"-> export {answers.api_key_env}=..., or set answers.reader to offline"
        )
