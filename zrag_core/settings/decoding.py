"""The section `decoding`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zrag_core.settings.section import Positive, Rate, Section, Share


class DecodingSettings(Section):
    """How evidence is read from the memory."""

    routed_documents: Positive = Field(4, description="k: documents read for a query")
    steps: Literal[1, 2] = Field(
        2,
        description="separated: 2 routes once more with question and first evidence, for questions over two documents",
    )
    prior_weight: Rate = Field(
        1.0,
        description="joint: how much of a sentence's likelihood without the question is subtracted; "
        "1: mutual information (separated: fitted with the skill)",
    )
    read_sentences: Positive | None = Field(
        None,
        description="pretrained backbones: sentences that the LLM reads to rank them, chosen by words and meaning; "
        "with one step, as many again where none of these looks like an answer; left out: 16 (gemma3, whose keys of "
        "meaning know little Korean: 64)",
    )
    free_spans: Positive = Field(8, description="free decoding: most spans (sentences) that are written for a question")
    max_new_tokens: Positive = Field(96, description="length of freely decoded evidence, per span")
    least_confidence: Share = Field(
        0.0, description="separated: questions answered with less confidence are refused (empty evidence); 0: none"
    )
    batch_size: Positive = Field(32, description="questions routed and freely decoded at once")
