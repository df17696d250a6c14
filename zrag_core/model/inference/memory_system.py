"""A memory as an evidence system: questions in, ranked evidence out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch

from zrag_core.corpus.types import Document, Question
from zrag_core.evidence import Retrieved, Segment, without_repetition
from zrag_core.model.architecture.sentence_features import SentenceFeatures, floor_log
from zrag_core.model.architecture.spans import span_slots
from zrag_core.model.inference.decoder import generate
from zrag_core.model.inference.rank_fusion import RankFusion
from zrag_core.model.inference.routing import Routed
from zrag_core.model.inference.sentence_ranking import Candidates, ReadPair, rank_sentences
from zrag_core.model.inference.sentence_store import SentenceStore
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.settings import DecodingSettings

_RANKED = 10
_GENERATED = 128  # sequences decoded at once

Queries = list[list[list[int]]]
"""Token ids of the query that each of the k read documents of each question is asked."""


class MemorySystem(ABC):
    """Routes with Z and reads the slots of the routed documents.

    Constrained decoding ranks the sentences of the k routed documents by a weighted sum of their features (see
    `SentenceFeatures`). Free decoding lets the model write from the spans that are most probable by Z alone; no text
    of the corpus has a part in it.

    Args:
        name: system name in tables.
        checkpoint: what is read.
        settings: k, steps, lengths and batch size.
        free: the model's own words instead of verbatim sentences.
        threads: CPU threads.
        fusion: what else ranks the documents that the question names.
    """

    least_tokens: ClassVar[int] = 0
    """With 1, the model writes something of every span that it is given."""

    def __init__(
        self,
        name: str,
        checkpoint: Checkpoint,
        settings: DecodingSettings,
        *,
        free: bool = False,
        threads: int = 2,
        fusion: RankFusion | None = None,
    ):
        self.name = name
        self.checkpoint = checkpoint
        self.settings = settings
        self.free = free
        self.threads = threads
        self._fusion = fusion
        self._sentences = SentenceStore.build(checkpoint.model, checkpoint.documents)
        self._weights = self.ranking_weights()  # [F]
        self.found: dict[str, Document] = {}  # documents that were found so far, by id

    # --- what each policy has of its own ----------------------------------------------------------

    @abstractmethod
    def ranking_weights(self) -> torch.Tensor:
        """Weights [F] of the sentence features."""

    @abstractmethod
    def _route_and_read(self, texts: Sequence[str]) -> tuple[list[Candidates], Routed, Queries]:
        """Candidates of each question, the documents it was routed to, and what each read document was asked."""

    @abstractmethod
    def _sentence_features(
        self, texts: Sequence[str], queries: Queries, pairs: Sequence[ReadPair], routed: Routed
    ) -> list[list[SentenceFeatures]]:
        """Features of every sentence of the document of each pair."""

    @abstractmethod
    def _confidence(self, candidates: Candidates, known: torch.Tensor) -> float | None:
        """Calibrated probability that the memory holds the answer; None where there is none.

        Args:
            known: log P(the question is about something in memory).
        """

    @abstractmethod
    def _reading_order(self, candidates: Candidates) -> list[int]:
        """Places of documents in the order of what was found in them; those that it leaves out stay as routed."""

    # --- what they share --------------------------------------------------------------------------

    def retrieve(self, questions: Sequence[Question]) -> list[Retrieved]:
        """One `Retrieved` per question: ten ranked documents, and sentences or free text."""
        torch.set_num_threads(self.threads)
        results: list[Retrieved] = []
        for start in range(0, len(questions), self.settings.batch_size):
            batch = questions[start : start + self.settings.batch_size]
            began = time.perf_counter()
            found = self._batch(batch)
            each = (time.perf_counter() - began) * 1000 / len(batch)
            results.extend(replace(item, latency_ms=each) for item in found)
        return results

    def candidates(self, questions: Sequence[str]) -> list[tuple[list[Segment], torch.Tensor, torch.Tensor]]:
        """Candidate sentences of each question, their features [C, F], and log P(it is about something in memory)."""
        found, routed, _ = self._found(questions)
        return [(own.segments, own.features, known_log_p(routed, i)) for i, own in enumerate(found)]

    def _found(self, texts: Sequence[str]) -> tuple[list[Candidates], Routed, Queries]:
        with self.checkpoint.model.each_query_once():
            return self._route_and_read(texts)

    def _batch(self, questions: Sequence[Question]) -> list[Retrieved]:
        found, routed, queries = self._found([question.question for question in questions])
        words = self._write(queries, routed, found) if self.free else [None] * len(questions)
        results = []
        for i, (question, own, text) in enumerate(zip(questions, found, words, strict=True)):
            sure = self._confidence(own, known_log_p(routed, i)) if own.segments else None
            segments = without_repetition([replace(own.segments[j], score=float(own.scores[j])) for j in own.order()])
            ranked = self._rank_documents(routed, i, own)
            documents = [self.checkpoint.documents[row] for row, _ in ranked]
            self.found |= {document.id: document for document in documents}
            results.append(
                Retrieved(
                    question.id,
                    document_ids=tuple(document.id for document in documents),
                    document_scores=tuple(score for _, score in ranked),
                    segments=() if self.free else segments,
                    text=text,
                    answerable=sure is None or sure >= self.settings.least_confidence,
                    confidence=sure,
                )
            )
        return results

    def _rank_documents(self, routed: Routed, i: int, candidates: Candidates) -> list[tuple[int, float]]:
        """Rows and scores of the routed documents: those that were read by what was found in them, then the others."""
        rows = routed.rows[i].tolist()
        scores = dict(zip(rows, routed.log_p[i].tolist(), strict=True))
        found = [rows[place] for place in dict.fromkeys(self._reading_order(candidates))]
        return [(row, scores[row]) for row in found + [row for row in rows if row not in found]]

    def _read(self, texts: Sequence[str], queries: Queries, routed: Routed) -> list[Candidates]:
        """The sentences of the documents that each question is asked of, with their features."""
        pairs = [[ReadPair(i, p, int(routed.rows[i, p])) for p in range(len(own))] for i, own in enumerate(queries)]
        flat = [pair for own in pairs for pair in own]
        features = iter(self._sentence_features(texts, queries, flat, routed) if flat else ())
        return [
            rank_sentences([(pair, next(features)) for pair in own], self._sentences, self._weights) for own in pairs
        ]

    def _slots(self, rows: Sequence[int], spans: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The slots [B, p, d] of one span of each of B rows, and which of them are there [B, p]."""
        return span_slots(*self.checkpoint.model.document_slots(rows), spans)

    def _write(
        self, queries: Queries, routed: Routed, found: Sequence[Candidates], most_spans: int | None = None
    ) -> list[str]:
        """The model's own words from the most probable spans of each question, in their order."""
        chosen = [own.spans[: most_spans or self.settings.free_spans] for own in found]
        flat = [(i, span) for i, spans in enumerate(chosen) for span in spans]
        texts: list[str] = []
        for start in range(0, len(flat), _GENERATED):
            part = flat[start : start + _GENERATED]
            places = [(int(routed.rows[i, span.place]), span.span) for i, span in part]
            texts.extend(self._generated(places, [queries[i][span.place] for i, span in part]))
        written, position = [], 0
        for spans in chosen:
            distinct = dict.fromkeys(texts[position : position + len(spans)])
            written.append("\n".join(text for text in distinct if text))
            position += len(spans)
        return written

    def _generated(self, places: Sequence[tuple[int, int]], queries: Sequence[Sequence[int]]) -> list[str]:
        """Greedy evidence for B queries from one span each, given as row and span."""
        z, used = self._slots([row for row, _ in places], [span for _, span in places])
        model, most = self.checkpoint.model, self.settings.max_new_tokens
        return generate(model, z, used, queries, most, min_new_tokens=self.least_tokens)

    def _first_routing(self, texts: Sequence[str], queries: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """log P(document | query) [B, N], fused with another ranking where there is one, and P(null) [B]."""
        with torch.no_grad():
            log_p, null_p = self.checkpoint.model.route(texts, queries)
        return (log_p if self._fusion is None else self._fusion(texts, log_p)), null_p

    @property
    def _width(self) -> int:
        """How many documents are ranked."""
        return max(_RANKED, self.settings.routed_documents)

    def _one_step(self, queries: list[list[int]], routed: Routed) -> Queries:
        """Each of the k read documents is asked the question itself."""
        return [[query] * min(self.settings.routed_documents, routed.rows.shape[1]) for query in queries]


def known_log_p(routed: Routed, i: int) -> torch.Tensor:
    """log P(question i is about something in memory)."""
    return floor_log(torch.log1p(-routed.null_p[i].clamp(max=1 - 1e-6))).cpu()
