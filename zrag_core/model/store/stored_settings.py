"""Settings as checkpoints and skills keep them: a form of its own, which outlives the sections of a run's settings.

`memory` is flat and holds the shapes of both policies, `training` is the section `joint` without them. Ids and
fingerprints are made from this form, so that the same input has the same id whatever the sections are called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zrag_core.settings import (
    BackboneSettings,
    JointSettings,
    Settings,
    SkillSettings,
    WritingSettings,
    load_settings,
)
from zrag_core.settings.backbone import AUTO, TINY
from zrag_core.systems import Policy

_SHAPE = frozenset({"slots", "width"})
_NOT_TRAINED = frozenset({"processes"})  # how many train makes it no other training
# Fields of the form that are no longer settings, with the only values that they can have had since.
_FIXED_MEMORY = {"title_width": 1024, "text_width": 1024}
_FIXED_TRAINING = {"reconstruction_share": 0.5}
_FIXED_SKILL = {"mask_least": 0.3}
_FIXED_WRITING = {"query_tokens": 64, "evidence_tokens": 96}
_THREADS = 2  # of whoever wrote a separated memory; it says nothing about the rows


def checkpoint_values(settings: Settings, policy: Policy) -> dict[str, Any]:
    """The part `settings` of a checkpoint's `config.json`.

    A separated memory is read with the architecture of its skill; how a joint one would be trained is no part of it.
    """
    trained = policy == "joint"
    return {
        "backbone": backbone_values(settings.backbone),
        "memory": memory_values(settings, policy),
        **codec_values(settings, policy),
        "training": {
            **training_values(settings.joint if trained else JointSettings()),
            "threads": settings.backbone.cpu_threads if trained else _THREADS,
        },
        "decoding": settings.decoding.model_dump(mode="json"),
    }


def skill_folder_values(settings: Settings) -> dict[str, Any]:
    """The part `settings` of a skill's `config.json`; on what device it was trained makes it no other skill."""
    backbone = backbone_values(settings.backbone)
    del backbone["device"]
    return {
        "backbone": backbone,
        "memory": memory_values(settings, "separated"),
        **codec_values(settings, "separated"),
        "skill": skill_values(settings.skill),
    }


def codec_values(settings: Settings, policy: Policy) -> dict[str, Any]:
    """How a pretrained backbone's memory keeps tokens; nothing where it does not."""
    if policy != "separated" or settings.backbone.name == TINY:
        return {}
    return {"codec": settings.codec.model_dump(mode="json", exclude={"save_every"})}


def backbone_values(backbone: BackboneSettings) -> dict[str, Any]:
    """What tells one backbone from another, and where it runs."""
    values = backbone.model_dump(mode="json", exclude={"threads"})
    if backbone.lora.last_layers is None:  # as before there was such a setting
        del values["lora"]["last_layers"]
    return values


def memory_values(settings: Settings, policy: Policy) -> dict[str, Any]:
    """The shape of the memory of a policy in a run with these settings."""
    own = settings.separated if policy == "separated" else settings.joint
    # A run of the policy joint alone had one shape; the other one kept its defaults.
    beside = JointSettings() if settings.memory.policy == "joint" else settings.joint
    return {
        "policy": policy,
        **settings.separated.model_dump(mode="json", exclude=set(_SHAPE)),
        **_FIXED_MEMORY,
        "slots": own.slots,
        "width": own.width,
        "joint_slots": beside.slots,
        "joint_width": beside.width,
    }


def training_values(joint: JointSettings) -> dict[str, Any]:
    """How a joint memory is trained; the number of threads is left to the caller."""
    return {**joint.model_dump(mode="json", exclude={*_SHAPE, *_NOT_TRAINED}), **_FIXED_TRAINING}


def skill_values(skill: SkillSettings) -> dict[str, Any]:
    """What a skill depends on: not how often its state is saved, nor whether it was compiled."""
    return {**skill.model_dump(mode="json", exclude={"save_every", "compile", *_NOT_TRAINED}), **_FIXED_SKILL}


def writing_values(writing: WritingSettings) -> dict[str, Any]:
    """What rows of a written memory depend on: not how many are written at once."""
    return {**writing.model_dump(mode="json", exclude={"batch_size"}), **_FIXED_WRITING}


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from the part `settings` of a `config.json`.

    Raises:
        KeyError, SettingsError, ProblemList: it is damaged.
    """
    memory = _without(dict(values["memory"]), _FIXED_MEMORY)
    policy, beside = memory.pop("policy"), {name: memory.pop(f"joint_{name}") for name in sorted(_SHAPE)}
    training = _without(values.get("training", {}), _FIXED_TRAINING)
    trained_on = training.pop("threads", _THREADS)
    joint = {name: memory.pop(name) for name in sorted(_SHAPE)} if policy == "joint" else beside
    tree = {
        "backbone": {**values["backbone"], "threads": trained_on if policy == "joint" else AUTO},
        "memory": {"policy": policy},
        "separated": {name: value for name, value in memory.items() if policy == "separated"},
        "codec": values.get("codec", {}),
        "skill": _without(values.get("skill", {}), _FIXED_SKILL),
        "joint": {**training, **joint},
        "decoding": values.get("decoding", {}),
    }
    return load_settings(tree)


def read_writing(values: Mapping[str, Any]) -> WritingSettings:
    """Settings of writing from a checkpoint's `config.json`."""
    return WritingSettings.model_validate(_without(values, _FIXED_WRITING))


def _without(values: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in fixed}
