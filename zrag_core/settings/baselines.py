"""The section `baselines`."""

from __future__ import annotations

from pydantic import Field

from zrag_core.settings.section import Positive, Rate, Section, Share


class BaselineSettings(Section):
    """The retrieval systems zRAG is measured against."""

    bm25_k1: Rate = Field(1.5, description="BM25 term saturation")
    bm25_b: Share = Field(0.75, description="BM25 length normalisation")
    dense_encoder: str = Field(
        "lsa",
        description="`lsa`, a sentence-transformers name or path, or `openai:MODEL` for OpenAI embeddings",
    )
    lsa_dimensions: Positive = Field(256, description="dimensions of the offline LSA encoder")
    rrf_k: Positive = Field(60, description="constant of reciprocal-rank fusion (Cormack et al. 2009)")
