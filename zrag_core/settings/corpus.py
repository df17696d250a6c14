"""The section `corpus`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from zrag_core.corpus_formats import FORMATS
from zrag_core.errors import ZragError
from zrag_core.settings.section import Positive, Section, Share, from_environment


class AlmanacSettings(Section):
    """The built-in generator of fictional documents."""

    documents: Positive = Field(64, description="how many documents to generate")
    language: Literal["en", "ko"] = Field("en", description="language of documents and questions")
    seed: int = Field(0, description="another seed is another world")


class HuggingFaceSettings(Section):
    """How the columns of a Hugging Face dataset map to documents and questions."""

    subset: str | None = Field(None, description="dataset configuration name")
    split: str = Field("validation", description="dataset split to read")
    text: str = Field("context", description="column with the passage")
    title: str | None = Field("title", description="column with the title, if any")
    question: str | None = Field("question", description="column with the question, if any")
    answers: str | None = Field("answers", description="column with the answers (SQuAD style or a list), if any")


class SplitSettings(Section):
    """Shares of the facts (never of single questions) that are held out."""

    dev: Share = Field(0.1, description="share of facts for tuning and calibration")
    test: Share = Field(0.3, description="share of facts that are only ever evaluated")

    @model_validator(mode="after")
    def _leaves_training_facts(self) -> SplitSettings:
        if self.dev + self.test >= 1.0:
            raise ValueError("dev + test must be below 1 so that some facts are left to train on")
        return self


class CorpusSettings(Section):
    """Where documents and questions come from."""

    format: str = Field(
        "almanac", description="`auto` recognises what `location` holds", json_schema_extra={"enum": [*FORMATS]}
    )
    location: str | None = Field(
        None,
        description="folder, file or Hugging Face dataset name; {env: NAME} reads an environment variable",
    )
    name: str | None = Field(
        None,
        description="what to call the corpus, and what keeps its changes by command apart; from `location` if left out",
    )
    limit_documents: Positive | None = Field(None, description="keep this many documents (a fixed sample)")
    limit_questions: Positive | None = Field(None, description="keep this many questions (a fixed sample)")
    passage_tokens: Positive = Field(
        384, description="documents longer than this many evidence tokens (UTF-8 bytes / 4) become passages"
    )
    seed: int = Field(0, description="seed of samples and splits")
    splits: SplitSettings = SplitSettings()
    almanac: AlmanacSettings = AlmanacSettings()
    huggingface: HuggingFaceSettings = HuggingFaceSettings()

    @field_validator("format")
    @classmethod
    def _is_registered(cls, value: str) -> str:
        try:
            return FORMATS[value].name
        except ZragError as error:
            raise ValueError(str(error)) from None

    @field_validator("location", mode="before")
    @classmethod
    def _from_environment(cls, value: Any) -> Any:
        return from_environment(value)

    @model_validator(mode="after")
    def _has_location(self) -> CorpusSettings:
        if FORMATS[self.format].summary and not self.location:
            raise ValueError(f"format '{self.format}' needs a location (a path or a dataset name)")
        return self
