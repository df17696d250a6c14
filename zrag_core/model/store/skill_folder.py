"""A skill as a folder: theta without any document, and the one that is shipped as package data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from zrag_core.errors import CheckpointError, ProblemList, SettingsError
from zrag_core.files import atomic_folder
from zrag_core.model.architecture.create_backbone import load_backbone
from zrag_core.model.architecture.create_memory import create_separated
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.store.stored_settings import read_settings, skill_folder_values
from zrag_core.settings import Settings
from zrag_core.settings.backbone import PACKAGED, TINY

FORMAT_VERSION = 2
EVERYDAY = "everyday.safetensors"

_GROWN = ("ranking", "confidence")


@dataclass(frozen=True)
class Skill:
    """A loaded skill.

    Attributes:
        model: theta in evaluation mode, its memory empty.
        settings: its backbone, its recipe and its shape; all else at its default. What a memory that is written with
            it keeps.
    """

    id: str
    model: SeparatedMemory
    settings: Settings


def shipped_skill(backbone: str = TINY) -> Path:
    """Folder of the skill that comes with the package for a backbone; see `is_shipped`."""
    return Path(str(resources.files("zrag_core") / "weights" / backbone))


def is_shipped(backbone: str) -> bool:
    """Whether the package brings a skill for a backbone."""
    return backbone in (TINY, *PACKAGED) and (shipped_skill(backbone) / "config.json").is_file()


def save_skill(
    folder: Path,
    model: SeparatedMemory,
    settings: Settings,
    *,
    skill_id: str,
    metrics: Mapping[str, Any],
    card: str,
    seen: Iterable[str] = (),
) -> None:
    """Write theta: tokenizer, backbone or adapter, heads, settings, metrics and a model card.

    Args:
        seen: content hashes of the documents that theta may have learned; a memory of these would prove nothing.
    """
    from safetensors.torch import save_file

    config = {
        "format_version": FORMAT_VERSION,
        "skill_id": skill_id,
        "seen": sorted(seen),
        "settings": skill_folder_values(settings),
    }
    with atomic_folder(folder) as temporary:
        model.backbone.save(temporary)
        heads = {name: value.detach().cpu().contiguous() for name, value in model.stored_heads().items()}
        save_file(heads, temporary / "heads.safetensors")
        if model.everyday:
            save_file(dict(model.everyday), temporary / EVERYDAY)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        for name, value in (("metrics.json", dict(metrics)), ("config.json", config)):
            text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
            (temporary / name).write_text(text + "\n", encoding="utf-8")


def read_skill_config(folder: Path) -> dict[str, Any]:
    """The skill's `config.json`.

    Raises:
        CheckpointError: no skill is there, or a damaged one, or one of an unknown format.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointError("no skill here", where=str(folder), remedy="train one (job `pretrain_tiny`)")
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = config.get("format_version")
    except (ValueError, AttributeError) as error:
        raise _damaged(folder, error) from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"format version {version} is not {FORMAT_VERSION}",
            where=str(file),
            remedy="train the skill again with this version of zRAG",
        )
    return config


def load_skill(folder: Path, *, device: str = "auto", everyday: bool = False) -> Skill:
    """Load the skill in `folder`.

    Args:
        everyday: judge by the weights that were fitted on documents by people, where the skill has such a set beside
            those of its own training data.
        device: where the model goes.

    Raises:
        CheckpointError: no skill, an unknown format, or damaged files.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_skill_config(folder)
    try:
        settings = read_settings(config["settings"])
        if settings.memory.policy != "separated":
            raise ValueError(f"a skill is of the policy separated, not {settings.memory.policy}")
    except (ValueError, KeyError, TypeError, SettingsError, ProblemList) as error:
        raise _damaged(folder, error) from error
    try:
        backbone = load_backbone(settings.backbone.model_copy(update={"device": device}), folder)
        model = create_separated(backbone, settings)
        heads = load_file(folder / "heads.safetensors")
        if everyday and (folder / EVERYDAY).is_file():
            heads |= load_file(folder / EVERYDAY)
        load_heads(model, heads)
        backbone.merge()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, error) from error
    return Skill(config["skill_id"], model.eval(), settings)


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the skill is damaged ({str(error).splitlines()[0]})",
        where=str(folder),
        remedy="restore the folder, or train the skill again (job `pretrain_tiny`)",
    )


def load_heads(model: MemoryModel, state: Mapping[str, torch.Tensor]) -> None:
    """Load the heads' tensors.

    Raises:
        ValueError: they are not those of this model.
    """
    state = _with_later_features(model.state_dict(), state)
    missing, unexpected = model.load_state_dict(state, strict=False)
    wanted = set(model.head_state())
    wrong = [name for name in missing if name in wanted] + list(unexpected)
    if wrong:
        raise ValueError(f"heads do not fit the model: {', '.join(wrong)}")


def _with_later_features(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Heads as this version has them; in older ones, features that came later count for nothing."""
    older = {name: own[name].shape[-1] - state[name].shape[-1] for name in _GROWN if name in own and name in state}
    state = dict(state)
    if older.get("ranking", 0) > 0:
        state["ranking"] = F.pad(state["ranking"], (0, older["ranking"]))
        state = {**{name: value for name, value in own.items() if name.startswith("relevance.")}, **state}
    if older.get("confidence", 0) > 0:
        *weights, bias = state["confidence"].split(1)
        state["confidence"] = torch.cat([*weights, torch.zeros(older["confidence"]), bias])
    return state
