"""The section `targets`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from zrag_core.settings.section import Section


class TargetSettings(Section):
    """How evidence targets are made beside gold evidence and answer sentences."""

    self_study_per_sentence: Annotated[int, Field(ge=0)] = Field(
        2, description="self-study queries (title + words of the sentence) for each sentence"
    )
    llm_questions_per_document: Annotated[int, Field(ge=0)] = Field(
        0, description="questions written by the answering model, kept if they lead back to their document"
    )
