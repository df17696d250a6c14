"""The registry of systems: every way from a question to evidence that can be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zrag_core.registry import Registry

Policy = Literal["separated", "joint"]


@dataclass(frozen=True, slots=True)
class SystemSpec:
    """One system.

    Attributes:
        name: in settings, tables and on the leaderboard.
        description: what it is, in one line.
        policy: of the memory that it always reads; None for one that reads none, or the one that the settings name.
    """

    name: str
    description: str
    policy: Policy | None = None


SYSTEMS: Registry[SystemSpec] = Registry("system")

for _spec in (
    SystemSpec("zrag", "sentences of the documents that the separated memory routes to", "separated"),
    SystemSpec("zrag_free", "the separated memory's own words", "separated"),
    SystemSpec("zrag_joint", "sentences of the documents that the joint memory routes to", "joint"),
    SystemSpec("zrag_joint_free", "the joint memory's own words", "joint"),
    SystemSpec("zrag_hybrid", "the separated memory's routing fused with BM25's ranking", "separated"),
    SystemSpec("zrag_full_prefix", "the model's own words with all of Z before the question"),
    SystemSpec("memorag", "a memory drafts an answer, whose clues are looked up beside the question"),
    SystemSpec("bm25", "BM25 over passages"),
    SystemSpec("bm25_sentence", "BM25 over sentences"),
    SystemSpec("dense", "nearest passages by their embeddings"),
    SystemSpec("hybrid", "BM25 and dense rankings fused"),
    SystemSpec("closed_book", "no evidence: what the answering model knows by itself"),
    SystemSpec("gold_evidence", "the evidence that the question was made from"),
):
    SYSTEMS.add(_spec)
