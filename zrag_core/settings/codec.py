"""The section `codec`, of the policy `separated` with a pretrained backbone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from zrag_core.settings.section import Positive, Rate, Section, Share


class CodecSettings(Section):
    """How a pretrained LLM's memory keeps tokens in slots, and the meaning of sentences in keys."""

    stride: Positive = Field(2, description="tokens per slot")
    width: Positive = Field(64, description="whole numbers (one byte each) per slot")
    inner: Positive = Field(1024, description="width of the codec's two small networks")
    key_width: Positive = Field(128, description="numbers of a sentence's key of meaning")
    steps: Annotated[int, Field(ge=0)] = Field(6000, description="optimiser steps of the codec")
    batch_size: Positive = Field(512, description="slots in a step")
    lr: Rate = Field(2e-3, description="learning rate of AdamW, falling to zero")
    random_share: Share = Field(0.25, description="tokens replaced by any of the vocabulary")
    seed: int = Field(0, description="of initial weights and batches")
    save_every: Positive = Field(500, description="steps between resumable states")
