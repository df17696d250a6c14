"""The section `joint`: the memory of the policy of that name, and its training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from zrag_core.settings.section import Positive, Rate, Section, Share


class JointSettings(Section):
    """The memory Z [documents, slots, width] that is trained together with theta, and that training."""

    slots: Positive = Field(4, description="m: vectors per document")
    width: Positive = Field(256, description="d: numbers per vector")
    steps: Positive | None = Field(600, description="optimiser steps; leave out to count in epochs")
    epochs: Positive | None = Field(None, description="passes over the training targets, if `steps` is left out")
    batch_size: Positive = Field(32, description="queries per micro-batch")
    gradient_accumulation: Positive = Field(1, description="micro-batches per optimiser step")
    lr_theta: Rate = Field(2e-3, description="learning rate of the backbone or its adapter")
    lr_memory: Rate = Field(1e-2, description="learning rate of Z")
    lr_projections: Rate = Field(2e-3, description="learning rate of projections and router heads")
    warmup: Share = Field(0.1, description="share of the steps with rising learning rate; cosine decay after it")
    query_tokens: Positive = Field(128, description="longer queries are cut (reported)")
    evidence_tokens: Positive = Field(256, description="longer targets are cut (reported)")
    self_study: Share = Field(0.5, description="share of each batch that are self-study queries")
    evidence_weight: Rate = Field(1.0, description="weight of the evidence loss; 0 trains the router alone")
    reconstruction_weight: Rate = Field(1.0, description="weight of document reconstruction, sentences shuffled")
    routing_weight: Rate = Field(0.5, description="weight of the routing cross-entropy over all documents")
    query_dropout: Share = Field(0.1, description="dropout on the router's query vectors")
    token_dropout: Share = Field(0.3, description="share of input tokens masked in reconstruction")
    query_mask: Share = Field(
        0.0, description="most of a query's tokens that are masked; how many, is drawn for each query"
    )
    wrong_reads: Share = Field(
        0.0,
        description="share of the queries that read another document, as a wrong routing would have it: theta then "
        "learns the facts under the query (a trap to see z_shuffle_coverage fail; not for use)",
    )
    seed: int = Field(0, description="same seed, settings and versions: same checkpoint")
    save_every: Positive = Field(200, description="steps between resumable states")
    processes: Annotated[int, Field(ge=0)] = Field(
        0,
        description="processes of its own that training runs in, each on its part of every batch; on GPUs as many as "
        "there are; 0: in the process of the run",
    )

    @model_validator(mode="after")
    def _one_length(self) -> JointSettings:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs (set the other to null)")
        return self

    @model_validator(mode="after")
    def _work_for_all(self) -> JointSettings:
        if self.processes > self.batch_size:
            raise ValueError(
                f"processes {self.processes} are more than batch_size {self.batch_size}, the queries to share"
            )
        return self

    @model_validator(mode="after")
    def _learns_something(self) -> JointSettings:
        if not (self.evidence_weight or self.reconstruction_weight or self.routing_weight):
            raise ValueError(
                "evidence_weight, reconstruction_weight and routing_weight are all 0; nothing would be learned"
            )
        return self
