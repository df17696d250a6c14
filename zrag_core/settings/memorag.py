"""The section `memorag`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from zrag_core.settings.section import Positive, Rate, Section


class MemoragSettings(Section):
    """MemoRAG: a memory model drafts an answer and gives clues, which are looked up beside the question."""

    memory: Literal["z", "summary", "kv"] = Field(
        "z",
        description="z: the separated memory Z, offline; summary: a light model (server, key and limits of `answers`) "
        "with a summary of the corpus; kv: a local model that has read the corpus, its KV cache kept on disk",
    )
    retriever: Literal["bm25", "dense", "hybrid"] = Field("bm25", description="what looks up question and clues")
    passages_per_clue: Positive = Field(3, description="passages that the question and each clue bring")
    draft_tokens: Positive = Field(160, description="summary, kv: longest draft, in the model's tokens")
    clue_tokens: Positive = Field(160, description="summary, kv: longest list of clues, in the model's tokens")
    light_model: str = Field(
        "gpt-4o-mini", description="summary: model name sent to the server, or `smollm2`, which runs in this process"
    )
    light_temperature: Rate = Field(0.3, description="summary: sampling temperature")
    group_tokens: Positive = Field(3000, description="summary: evidence tokens that one summary is made of")
    summary_tokens: Positive = Field(300, description="summary: evidence tokens that a summary should have")
    page_tokens: Positive = Field(700, description="summary: evidence tokens of the page at the top")
    memory_tokens: Positive = Field(6000, description="summary: evidence tokens of memory in each prompt")
    kv_model: str | None = Field(
        None, description="kv: `smollm2`, or the Hugging Face name or local path of a long-context causal LM"
    )
    kv_window: Positive | None = Field(None, description="kv: tokens of context; left out: as many as the model allows")
    kv_dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="kv: auto: bfloat16 on GPU")
    kv_chunk_tokens: Positive = Field(1024, description="kv: tokens of the corpus that are read at once")
    kv_batch_size: Positive = Field(1, description="kv: questions decoded at once; each takes a copy of the cache")

    @model_validator(mode="after")
    def _names_its_model(self) -> MemoragSettings:
        if self.memory == "kv" and self.kv_model is None:
            raise ValueError("memory 'kv' needs kv_model (smollm2, a Hugging Face name or a local path)")
        return self
