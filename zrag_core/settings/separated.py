"""The section `separated`: the memory of the policy of that name."""

from __future__ import annotations

from pydantic import Field, model_validator

from zrag_core.settings.section import Positive, Section


class SeparatedSettings(Section):
    """The memory Z [documents, slots, width] that a frozen theta writes, and its routing keys."""

    slots: Positive = Field(80, description="m: vectors per document")
    width: Positive = Field(128, description="d: numbers per vector")
    stride: Positive = Field(3, description="tokens of the document per slot, at least")
    window: Positive = Field(
        1024, description="tokens that are read at once in writing; longer documents are read in passages"
    )
    key_width: Positive = Field(64, description="numbers of a sentence's routing key (made from its slots)")

    @model_validator(mode="after")
    def _leaves_room_to_refine(self) -> SeparatedSettings:
        # Refinement moves a slot in directions that its key does not see; a wide key leaves none.
        if self.key_width >= self.width:
            raise ValueError(f"key_width {self.key_width} must be below width {self.width}, or nothing can be refined")
        return self
