"""The section `evaluation`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from zrag_core.settings.section import Positive, Section
from zrag_core.systems import SYSTEMS

EvaluatedSplit = Literal["train", "dev", "test", "new_documents", "unanswerable"]
QuestionType = Literal["single", "two_hop", "vague"]


def _registered(name: str) -> str:
    if name not in SYSTEMS:
        raise ValueError(f"no such system; known: {', '.join(SYSTEMS)}")
    return name


def _list_names(schema: dict[str, Any]) -> None:
    schema["enum"] = list(SYSTEMS)


SystemName = Annotated[str, AfterValidator(_registered), Field(json_schema_extra=_list_names)]


class EvaluationSettings(Section):
    """What is measured, on which questions."""

    systems: tuple[SystemName, ...] = Field(
        (
            "zrag",
            "zrag_free",
            "bm25",
            "bm25_sentence",
            "dense",
            "hybrid",
            "memorag",
            "closed_book",
            "gold_evidence",
        ),
        min_length=1,
        description="systems, in the order of the leaderboard",
    )
    splits: tuple[EvaluatedSplit, ...] = Field(("test",), min_length=1, description="splits to evaluate")
    question_types: tuple[QuestionType, ...] = Field(
        ("single", "two_hop", "vague"), min_length=1, description="types of question to evaluate"
    )
    budgets: tuple[Positive, ...] = Field((64, 128, 256, 512), min_length=1, description="evidence tokens per question")
    limit_questions: Positive | None = Field(None, description="at most this many questions (a fixed sample)")
    memory_checks: Literal["all", "serving"] = Field(
        "all",
        description="serving: only the checks of what people who ask depend on (documents found, answers quoted, "
        "nothing left of what was deleted); all: also those of how the memory works",
    )
    bootstrap_samples: Positive = Field(1000, description="resamples of documents behind each interval")
    confidence: Annotated[float, Field(gt=0.0, le=0.99)] = Field(0.95, description="level of intervals and verdicts")
    seed: int = Field(0, description="seed of the sample and of the bootstrap")
    reference: SystemName | None = Field(
        None,
        description="system that the others are compared with, beside zrag; left out: bm25_sentence where it is "
        "evaluated, else the first retrieval baseline",
    )

    @field_validator("systems", "splits", "question_types", "budgets")
    @classmethod
    def _named_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if repeated := [str(value) for value, count in Counter(values).items() if count > 1]:
            raise ValueError(f"named more than once: {', '.join(repeated)}")
        return values

    @model_validator(mode="after")
    def _compares_with_what_is_evaluated(self) -> EvaluationSettings:
        if self.reference is not None and self.reference not in self.systems:
            raise ValueError(f"reference '{self.reference}' is not one of systems")
        return self
