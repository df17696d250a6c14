"""The section `benchmark`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zrag_core.settings.section import Positive, Section


class BenchmarkSettings(Section):
    """The jobs `benchmark_memory` and `benchmark_update`: almanacs that nothing was chosen on."""

    seeds: tuple[int, ...] = Field((311, 312, 313), min_length=1, description="almanac seeds")
    languages: tuple[Literal["en", "ko"], ...] = Field(("en", "ko"), min_length=1, description="almanac languages")
    documents: tuple[Positive, ...] = Field((64, 200), min_length=1, description="numbers of documents in memory")
    questions: Positive = Field(300, description="questions of each type per almanac, at most (a fixed sample)")
    updated: Positive = Field(50, description="documents that are added to the memory, and others removed from it")
