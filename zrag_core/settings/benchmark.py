"""The section `benchmark`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zrag_core.settings.section import Positive, Section


class BenchmarkSettings(Section):
    """The jobs `benchmark`, `benchmark_memory` and `benchmark_update`, on almanacs that nothing was chosen on, and
    `benchmark_codec`."""

    seeds: tuple[int, ...] = Field((311, 312, 313), min_length=1, description="almanac seeds")
    languages: tuple[Literal["en", "ko"], ...] = Field(("en", "ko"), min_length=1, description="almanac languages")
    documents: tuple[Positive, ...] = Field((64, 200), min_length=1, description="numbers of documents in memory")
    sizes: tuple[Positive, ...] = Field(
        (1_000, 10_000, 100_000), min_length=1, description="numbers of documents (`benchmark`)"
    )
    routed_sizes: tuple[Positive, ...] = Field(
        (1_000_000,), description="numbers of documents of which routing alone is measured (`benchmark`)"
    )
    trained_documents: Positive = Field(
        2_000, description="documents of a joint memory that is trained with two recipes (`benchmark`)"
    )
    naive_questions: Positive = Field(6, description="questions of the naive one, each of which reads all of Z")
    questions: Positive = Field(300, description="questions of each type per almanac, at most (a fixed sample)")
    updated: Positive = Field(50, description="documents that are added to the memory, and others removed from it")
    codecs: tuple[Annotated[str, Field(pattern=r"^[1-9]\d*x[1-9]\d*$")], ...] = Field(
        ("1x576", "1x128", "2x128", "2x64", "3x64", "4x64"),
        min_length=1,
        description="stride x width of each codec (`benchmark_codec`)",
    )
    codec_steps: Positive = Field(1500, description="optimiser steps of each of them")
    optimised_documents: Annotated[int, Field(ge=0)] = Field(
        20, description="documents of which 4 x 256 numbers are optimised one by one (`benchmark_codec`)"
    )
    optimised_steps: Positive = Field(100, description="steps of that")
