"""The section `skill`, of the policy `separated`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from zrag_core.settings.section import Positive, Rate, Section, Share, from_environment


class SkillSettings(Section):
    """Skill training, for the policy `separated`: theta learns on documents that are thrown away."""

    start: Literal["auto", "refit", "scratch"] = Field(
        "auto",
        description="auto: from the shipped skill, where the backbone has one; refit: the same, and what judges "
        "(relevance, ranking, confidence) is fitted anew on what was written for it; scratch: from random weights",
    )
    steps: Annotated[int, Field(ge=0)] = Field(
        0, description="optimiser steps; 0 takes the skill as it is shipped (with a corpus: only calibrates it there)"
    )
    languages: tuple[Literal["en", "ko"], ...] = Field(
        ("en", "ko"), min_length=1, description="languages of the generated skill documents"
    )
    corpus: str | None = Field(
        None,
        description="corpus to learn from instead of generated documents, in any format that is read; never the "
        "memory's own",
    )
    documents: Positive = Field(32, description="documents written in a step")
    questions: Positive = Field(3, description="questions read for each of them")
    level_loss: Rate = Field(0.9, description="evidence loss below which slots get a token fuller, up to the stride")
    unanswerable_share: Share = Field(
        1.0, description="chance of each question without an answer, and of one about another document, to be asked"
    )
    query_mask: Share = Field(0.3, description="most of a query's tokens that are masked where a span is to be found")
    absent_share: Share = Field(0.1, description="questions about documents not in memory, per document in memory")
    renamed_share: Share = Field(
        0.6, description="documents in which some tokens are replaced by random ones, question and evidence alike"
    )
    finding_weight: Rate = Field(1.0, description="weight of finding the sentence among the document's")
    reconstruction_weight: Rate = Field(1.0, description="weight of rebuilding sentences from their slots")
    routing_weight: Rate = Field(0.3, description="weight of the routing cross-entropy over the step's documents")
    lr: Rate = Field(3e-3, description="learning rate of AdamW (embeddings, heads, and all of a LoRA adapter)")
    lr_matrices: Rate = Field(5e-3, description="learning rate of Muon (weight matrices of zrag-tiny)")
    warmup: Share = Field(0.02, description="share of the steps with rising learning rate")
    decay: Share = Field(0.4, description="share of the steps, at the end, with falling learning rate")
    document_tokens: Positive = Field(256, description="longer documents are cut in skill training")
    query_tokens: Positive = Field(64, description="longer queries are cut")
    evidence_tokens: Positive = Field(96, description="longer evidence is cut")
    autocast: bool = Field(False, description="matrix products in bfloat16; faster where the processor has them")
    compile: bool = Field(False, description="torch.compile; about a minute at the start, faster after it")
    seed: int = Field(0, description="same seed, settings and versions: same skill")
    save_every: Positive = Field(200, description="steps between resumable states")
    processes: Annotated[int, Field(ge=0)] = Field(
        0,
        description="processes of its own that training runs in, as joint.processes; zrag-tiny alone",
    )

    @field_validator("corpus", mode="before")
    @classmethod
    def _from_environment(cls, value: Any) -> Any:
        return from_environment(value)
