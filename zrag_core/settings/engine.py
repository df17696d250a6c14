"""The section `engine`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zrag_core.settings.section import Positive, Section


class EngineSettings(Section):
    """Who writes the corpus into Z and asks the memory the evaluated questions, shard by shard.

    What comes out is the same bit for bit, whichever it is.
    """

    name: Literal["local", "ray"] = Field(
        "local", description="local: this process; ray: workers of a Ray cluster (`pip install 'zrag[ray]'`)"
    )
    workers: Positive = Field(2, description="ray: worker processes, each with `backbone.threads` CPUs")
    address: str | None = Field(
        None,
        description="ray: of a running cluster (`auto`, or `host:6379` of its head); left out: one is started on this "
        "machine and stopped at the end",
    )
    documents_per_shard: Positive = Field(512, description="documents that a worker writes before it takes others")
    questions_per_shard: Positive = Field(
        256, description="questions that a worker is asked before it takes others; made a multiple of the batch size"
    )
