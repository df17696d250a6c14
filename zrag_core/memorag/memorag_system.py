"""MemoRAG as an evidence system: draft, clues, retrieval for each clue, one merged ranking of passages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zrag_core.baselines.hybrid import reciprocal_rank_fusion
from zrag_core.baselines.ranking import retrieved_passages
from zrag_core.corpus.types import Document, Question
from zrag_core.evidence import Evidence, EvidenceSystem, Retrieved
from zrag_core.memorag.clue_memory import ClueMemory, Clues, Draft, Usage


@dataclass(frozen=True, slots=True)
class MemoragTrace:
    """How a question came to its passages.

    Attributes:
        draft: the memory's draft of an answer.
        clues: what was looked for beside the question.
        found: ids of the passages that the question (first) and each clue retrieved, best first.
        passages: the same merged, best first.
        usage: on draft and clues.
        error: why the memory gave no draft or no clues; the question alone was looked for then.
    """

    question_id: str
    draft: str
    clues: tuple[str, ...]
    found: tuple[tuple[str, ...], ...]
    passages: tuple[str, ...]
    usage: Usage
    error: str | None = None


class MemoragSystem:
    """Retrieves for the question and for each clue that a memory model gives, and merges the passages.

    Evidence is the merged passages as they stand, ranked by reciprocal-rank fusion: what several clues lead to comes
    first. The ranking of documents goes on behind the passages (with score 0) with what the queries ranked lower, so
    that recall is measured to the same depth as that of the other systems; none of that is evidence.

    Args:
        name: system name in tables.
        memory: drafts and gives clues.
        retriever: looks clues up; its evidence is of no interest, only its ranking of documents.
        documents: the corpus, in its order.
        passages_per_clue: passages that the question and each clue bring.
        rrf_k: constant of the fusion.

    Attributes:
        memory: what drafts and gives clues.
        traces: of every question asked so far, by question id.
    """

    def __init__(
        self,
        name: str,
        memory: ClueMemory,
        retriever: EvidenceSystem,
        documents: Sequence[Document],
        passages_per_clue: int,
        *,
        rrf_k: int,
    ):
        self.name = name
        self.memory = memory
        self.traces: dict[str, MemoragTrace] = {}
        self._retriever = retriever
        self._documents = {document.id: document for document in documents}
        self._places = {document.id: place for place, document in enumerate(documents)}
        self._per_clue = passages_per_clue
        self._k = rrf_k

    @property
    def usage(self) -> Usage:
        """What drafts and clues of all questions took."""
        return sum((trace.usage for trace in self.traces.values()), Usage())

    def retrieve(self, questions: Sequence[Question]) -> list[Retrieved]:
        """Draft, find clues and look them up, for all questions at once.

        Raises:
            AnsweringError: the memory model cannot be asked at all.
        """
        if not questions:
            return []
        began = time.perf_counter()
        drafts = self.memory.draft(questions)
        clues = self.memory.clues(questions, drafts)
        each_ms = 1e3 * (time.perf_counter() - began) / len(questions)
        queries = [_queries(question, own) for question, own in zip(questions, clues, strict=True)]
        found = iter(self._retriever.retrieve([query for own in queries for query in own]))
        return [
            self._merge(question, draft, own, [next(found) for _ in asked], each_ms)
            for question, draft, own, asked in zip(questions, drafts, clues, queries, strict=True)
        ]

    def arrange(self, evidence: Evidence) -> Evidence:
        """The same evidence in document order, as it is shown to the answering model.

        Passages were chosen, and the last one cut, by rank; corpus order, and within a document the order of its text,
        tells the reader what follows what. The size stays the same.
        """
        segments = sorted(evidence.segments, key=lambda segment: (self._places[segment.document_id], segment.start))
        return Evidence("\n".join(segment.text for segment in segments), tuple(segments))

    def _merge(
        self, question: Question, draft: Draft, clues: Clues, found: Sequence[Retrieved], memory_ms: float
    ) -> Retrieved:
        rankings = [item.document_ids for item in found]
        best = [ranking[: self._per_clue] for ranking in rankings]
        passages = reciprocal_rank_fusion(best, self._k)
        chosen = {document_id for document_id, _ in passages}
        others = [pair for pair in reciprocal_rank_fusion(rankings, self._k) if pair[0] not in chosen]
        self.traces[question.id] = MemoragTrace(
            question.id,
            draft.text,
            clues.lines,
            tuple(best),
            tuple(document_id for document_id, _ in passages),
            draft.usage + clues.usage,
            draft.error or clues.error,
        )
        latency_ms = memory_ms + sum(item.latency_ms for item in found)
        evidence = retrieved_passages(
            question.id, [(self._documents[document_id], score) for document_id, score in passages], latency_ms
        )
        return replace(
            evidence,
            document_ids=evidence.document_ids + tuple(document_id for document_id, _ in others),
            document_scores=evidence.document_scores + (0.0,) * len(others),
        )


def _queries(question: Question, clues: Clues) -> list[Question]:
    """The question and its clues as questions of their own, without anything that would give the answer away."""
    texts = [question.question, *clues.lines]
    return [Question(f"{question.id}#{n}", text, language=question.language) for n, text in enumerate(texts)]
