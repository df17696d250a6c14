"""The memory model as an evidence system: questions in, ranked evidence out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from zrag_core.corpus.types import Question
from zrag_core.evidence import Retrieved, Segment
from zrag_core.model.checkpoint import Checkpoint
from zrag_core.model.reading import Routed, SentenceStore, generate, route, sentence_log_likelihoods
from zrag_core.settings import DecodingSettings

_RANKED = 10


class MemorySystem:
    """Routes with Z and reads the routed documents' slots.

    Constrained decoding ranks the sentences of the k routed documents by
    log P(document | query) + l(sentence | query, slots) - w l(sentence | title, slots), where l is the mean
    log-likelihood per token and w `prior_weight`: likelihood alone prefers sentences that the model finds easy
    whatever is asked; w = 1 ranks by pointwise mutual information with the question (Brown et al. 2020 score
    answers alike). Free decoding lets the model write from each routed document in turn.

    Args:
        name: system name in tables.
        checkpoint: what is read.
        settings: k, lengths and batch size.
        free: the model's own words instead of verbatim sentences.
        threads: CPU threads.
    """

    def __init__(
        self, name: str, checkpoint: Checkpoint, settings: DecodingSettings, *, free: bool = False, threads: int = 2
    ):
        self.name = name
        self.checkpoint = checkpoint
        self.settings = settings
        self.free = free
        self.threads = threads
        self._priors: dict[int, list[float]] = {}
        self._sentences = None if free else SentenceStore.build(checkpoint.model, checkpoint.documents)

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

    def _batch(self, questions: Sequence[Question]) -> list[Retrieved]:
        model = self.checkpoint.model
        limit = self.checkpoint.settings.training.query_tokens
        texts = [question.question for question in questions]
        queries = [model.backbone.encode(text, limit) for text in texts]
        routed = route(model, texts, queries, max(_RANKED, self.settings.routed_documents))
        k = min(self.settings.routed_documents, routed.rows.shape[1])
        pieces: list[tuple[str | None, tuple[Segment, ...]]]
        if self.free:
            flat = [query for query in queries for _ in range(k)]
            z = model.z[routed.rows[:, :k].flatten()]
            texts_of = generate(model, z, flat, self.settings.max_new_tokens)
            pieces = [("\n".join(_distinct(texts_of[i * k : (i + 1) * k])), ()) for i in range(len(queries))]
        else:
            pieces = [(None, self._rank_sentences(routed, i, query, k)) for i, query in enumerate(queries)]
        return [
            Retrieved(
                question.id,
                document_ids=tuple(self.checkpoint.documents[row].id for row in routed.rows[i].tolist()),
                document_scores=tuple(routed.log_p[i].tolist()),
                segments=segments,
                text=text,
                confidence=None,
            )
            for i, (question, (text, segments)) in enumerate(zip(questions, pieces, strict=True))
        ]

    def _rank_sentences(self, routed: Routed, i: int, query: list[int], k: int) -> tuple[Segment, ...]:
        assert self._sentences is not None
        rows = routed.rows[i, :k]
        chosen = rows.tolist()
        likelihoods = sentence_log_likelihoods(
            self.checkpoint.model, self.checkpoint.model.z[rows], query, [self._sentences.ids[row] for row in chosen]
        )
        weight = self.settings.prior_weight
        scored = [
            Segment(segment.document_id, segment.start, segment.end, segment.text, log_p + likelihood - weight * prior)
            for row, log_p, row_likelihoods in zip(chosen, routed.log_p[i, :k].tolist(), likelihoods, strict=True)
            for segment, likelihood, prior in zip(
                self._sentences.segments[row], row_likelihoods, self._prior(row), strict=True
            )
        ]
        return tuple(sorted(scored, key=lambda segment: -segment.score))

    def _prior(self, row: int) -> list[float]:
        """How likely each sentence of a document is when only its title is asked for; made once per document."""
        assert self._sentences is not None
        if row not in self._priors:
            model, document = self.checkpoint.model, self.checkpoint.documents[row]
            title = model.backbone.encode(document.title)
            self._priors[row] = sentence_log_likelihoods(model, model.z[[row]], title, [self._sentences.ids[row]])[0]
        return self._priors[row]


def _distinct(texts: Sequence[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]
