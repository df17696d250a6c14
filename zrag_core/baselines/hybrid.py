"""Reciprocal-rank fusion of several rankings (Cormack, Clarke and Buettcher, SIGIR 2009)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

from zrag_core.baselines.ranking import DEPTH, retrieved_passages
from zrag_core.corpus.types import Document, Question
from zrag_core.evidence import EvidenceSystem, Retrieved
from zrag_core.system_factory import SystemInputs
from zrag_core.systems import SystemSpec

T = TypeVar("T", bound=Hashable)


def reciprocal_rank_fusion(rankings: Sequence[Sequence[T]], k: int) -> list[tuple[T, float]]:
    """Fuse rankings: each document scores the sum of 1 / (k + rank) over the rankings that hold it.

    Args:
        rankings: of documents (ids or rows), best first; ranks count from 1.
        k: dampens the weight of the first ranks (60 in the paper).

    Returns:
        Pairs of document and score, best first; equal scores keep the order of first appearance.
    """
    fused: dict[T, float] = {}
    for ranking in rankings:
        for rank, document in enumerate(ranking, start=1):
            fused[document] = fused.get(document, 0.0) + 1.0 / (k + rank)
    return sorted(fused.items(), key=lambda pair: -pair[1])


class HybridSystem:
    """Fusion of other systems' document rankings; evidence is the best passages as they stand."""

    name = "hybrid"

    def __init__(self, systems: Sequence[EvidenceSystem], documents: Sequence[Document], *, rrf_k: int):
        self._systems = tuple(systems)
        self._documents = {document.id: document for document in documents}
        self._k = rrf_k

    def retrieve(self, questions: Sequence[Question]) -> list[Retrieved]:
        """Ask every system and fuse what they rank; latency is the sum of theirs."""
        answers = [system.retrieve(questions) for system in self._systems]
        return [self._fuse(question, parts) for question, *parts in zip(questions, *answers, strict=True)]

    def _fuse(self, question: Question, parts: Sequence[Retrieved]) -> Retrieved:
        fused = reciprocal_rank_fusion([part.document_ids for part in parts], self._k)[:DEPTH]
        ranked = [(self._documents[document_id], score) for document_id, score in fused]
        return retrieved_passages(question.id, ranked, sum(part.latency_ms for part in parts))


def make_hybrid(_spec: SystemSpec, inputs: SystemInputs) -> HybridSystem:
    """Fusion of BM25 over passages and dense search."""
    systems = [inputs.make("bm25"), inputs.make("dense")]
    return HybridSystem(systems, inputs.corpus.documents, rrf_k=inputs.settings.baselines.rrf_k)
