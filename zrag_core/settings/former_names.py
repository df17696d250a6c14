"""Fields that had another name, or are no longer there: what to write instead."""

from __future__ import annotations

from zrag_core.settings.joint import JointSettings

RENAMED = {
    **{f"memory.{name}": f"separated.{name}" for name in ("stride", "window", "key_width")},
    **{
        f"memory.{name}": f"separated.{name} (policy separated) or joint.{name} (policy joint)"
        for name in ("slots", "width")
    },
    "training": "joint, and training.threads as backbone.threads",
    "memory.joint_slots": "joint.slots",
    "memory.joint_width": "joint.width",
    **{f"training.{name}": f"joint.{name}" for name in JointSettings.model_fields if name not in ("slots", "width")},
    **{f"{section}.threads": "backbone.threads" for section in ("training", "skill", "writing")},
}
"""Former dotted name of a field to the present one."""

REMOVED = {
    "training.reconstruction_share": "one document is rebuilt for every two queries of a batch",
    **{
        f"{section}.{name}": "words are kept as they are, and compared exactly"
        for section in ("memory", "separated")
        for name in ("title_width", "text_width")
    },
    "skill.mask_least": "at least 0.3 of the tokens are masked in rebuilding",
    "writing.query_tokens": "queries are cut at 64 tokens, as in skill training",
    "writing.evidence_tokens": "evidence is cut at 96 tokens, as in skill training",
}
"""Former dotted name of a field to what holds now, whatever it was set to."""


def new_place(field: str) -> str | None:
    """What to tell a person who gives a field under its former name; None for what never was one."""
    if field in RENAMED:
        return f"renamed -> give {RENAMED[field]}"
    return f"no longer a setting -> leave it out ({REMOVED[field]})" if field in REMOVED else None
