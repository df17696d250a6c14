"""The section `writing`, of the policy `separated`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from zrag_core.settings.section import Positive, Rate, Section, Share


class WritingSettings(Section):
    """Writing the corpus into Z with theta frozen, for the policy `separated`."""

    steps: Annotated[int, Field(ge=0)] = Field(60, description="gradient steps on a document's slots, at most; 0: none")
    lr: Rate = Field(0.05, description="learning rate of the slots")
    tolerance: Rate = Field(0.03, description="a document is done when its running loss falls below this")
    queries: Positive = Field(6, description="questions read in a step, per document")
    asked_share: Share = Field(0.5, description="share of training questions among them; the others are self-study")
    batch_size: Positive = Field(32, description="documents at once")
    seed: int = Field(0, description="of the self-study queries")
