"""The section `memory`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zrag_core.settings.section import Section


class MemorySettings(Section):
    """Which of the two memories is made; the sections `separated` and `joint` say how."""

    policy: Literal["separated", "joint"] = Field(
        "separated",
        description="separated: theta learns the skill on other documents and Z alone holds the corpus; "
        "joint: theta and Z are trained together on the corpus",
    )
