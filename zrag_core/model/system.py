"""The memory model as an evidence system: questions in, ranked evidence out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from zrag_core.corpus.types import Question
from zrag_core.evidence import Retrieved, Segment
from zrag_core.model.checkpoint import Checkpoint
from zrag_core.model.features import feature_ids
from zrag_core.model.ranking import confidence, floor_log, question_features, word_overlap
from zrag_core.model.reading import Routed, SentenceStore, generate, read_sentences, route, route_again, route_all
from zrag_core.model.slot_router import inverse_frequency
from zrag_core.settings import DecodingSettings

_RANKED = 10


@dataclass(frozen=True, slots=True)
class _Read:
    """The candidate sentences of one question, with their features [C, F] and scores [C].

    Attributes:
        places: which of the read documents each sentence is from.
    """

    segments: list[Segment]
    places: list[int]
    features: torch.Tensor
    scores: torch.Tensor


class MemorySystem:
    """Routes with Z and reads the routed documents' slots.

    Constrained decoding ranks the sentences of the k routed documents by a weighted sum of what speaks for them (see
    `ranking.SENTENCE_FEATURES`): the routing probability, the likelihood given query and slots, and, under the policy
    `separated`, the probability that the document answers at all and the words that query and sentence share. Free
    decoding lets the model write from each routed document, the one that most likely answers first.

    Args:
        name: system name in tables.
        checkpoint: what is read.
        settings: k, steps, lengths and batch size.
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
        model = checkpoint.model
        self._priors: dict[int, torch.Tensor] = {}
        self._sentences = SentenceStore.build(model, checkpoint.documents)
        self._idf = inverse_frequency(model.frequency, len(model.z))
        self._weights = model.ranking_weights(settings.prior_weight)

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

    def judge(self, question: str) -> tuple[list[Segment], torch.Tensor, torch.Tensor]:
        """Candidate sentences of a question, their features [C, F], and log P(it is about something in memory)."""
        (read,), routed, _ = self._read_all([question])
        return read.segments, read.features, self._known(routed, 0)

    def _batch(self, questions: Sequence[Question]) -> list[Retrieved]:
        reads, routed, queries = self._read_all([question.question for question in questions])
        words = self._write(queries, routed, reads) if self.free else [None] * len(questions)
        weights = self.checkpoint.model.confidence_weights()
        results = []
        for i, (question, read, text) in enumerate(zip(questions, reads, words, strict=True)):
            sure = None
            if weights is not None:
                own = question_features(self._known(routed, i), read.features, read.scores)
                sure = float(confidence(own, weights))
            order = torch.argsort(read.scores, descending=True, stable=True).tolist()
            segments = tuple(replace(read.segments[j], score=float(read.scores[j])) for j in order)
            ranked = self._rank_documents(routed, i, read)
            results.append(
                Retrieved(
                    question.id,
                    document_ids=tuple(self.checkpoint.documents[row].id for row, _ in ranked),
                    document_scores=tuple(score for _, score in ranked),
                    segments=() if self.free else segments,
                    text=text,
                    answerable=sure is None or sure >= self.settings.least_confidence,
                    confidence=sure,
                )
            )
        return results

    def _rank_documents(self, routed: Routed, i: int, read: _Read) -> list[tuple[int, float]]:
        """Rows and scores of the routed documents: those that were read by what was found in them, then the others.

        Under the policy `joint` the routing decides alone.
        """
        rows = routed.rows[i].tolist()
        scores = dict(zip(rows, routed.log_p[i].tolist(), strict=True))
        order = rows
        if self.checkpoint.model.encoder is not None:
            found = [rows[place] for place in self._by_answer(read)]
            order = found + [row for row in rows if row not in found]
        return [(row, scores[row]) for row in order]

    def _read_all(self, texts: Sequence[str]) -> tuple[list[_Read], Routed, list[list[list[int]]]]:
        """Route and read B questions in one or two steps.

        Returns:
            candidates of each question, the documents it was routed to, and the query (token ids) that each of its k
            read documents was asked: the question, or with the first evidence behind it.
        """
        model, k = self.checkpoint.model, self.settings.routed_documents
        limit = self.checkpoint.settings.training.query_tokens
        queries = [model.backbone.encode(text, limit) for text in texts]
        width = max(_RANKED, k)
        if model.encoder is None or self.settings.steps == 1 or len(self.checkpoint.documents) < 2:
            routed = route(model, texts, queries, width)
            asked = [[query] * min(k, routed.rows.shape[1]) for query in queries]
        else:
            first, null_p = route_all(model, texts, queries)
            sources, longer = [], []
            for i, (text, query) in enumerate(zip(texts, queries, strict=True)):
                row = int(first[i].argmax())
                read = self._read(text, [query], [row], first[i, row][None], torch.zeros(1, dtype=torch.bool))
                sources.append(row)
                longer.append(f"{text} {read.segments[int(read.scores.argmax())].text}")
            second = [model.backbone.encode(text, 2 * limit) for text in longer]
            routed = route_again(model, first, null_p, longer, second, sources, width)
            asked = [
                [second[i] if later else query for later in routed.second[i, :k].tolist()]
                for i, query in enumerate(queries)
            ]
        reads = [
            self._read(text, asked[i], routed.rows[i, :k].tolist(), routed.log_p[i], routed.second[i])
            for i, text in enumerate(texts)
        ]
        return reads, routed, asked

    def _read(
        self, text: str, asked: list[list[int]], rows: list[int], log_p: torch.Tensor, second: torch.Tensor
    ) -> _Read:
        """Read documents, each with its own query, and put the features of all their sentences together."""
        model = self.checkpoint.model
        ids = [self._sentences.ids[row] for row in rows]
        answers, likelihoods = read_sentences(model, model.z[rows], asked, ids)
        bag = feature_ids(text)
        features, segments, places = [], [], []
        for place, row in enumerate(rows):
            prior = self._prior(row)
            for n, segment in enumerate(self._sentences.segments[row]):
                words = word_overlap(bag, self._sentences.features(row)[n], self._idf)
                shared = [float(log_p[place]), float(second[place]), float(answers[place])]
                features.append([*shared, likelihoods[place][n], float(prior[n]), words])
                segments.append(segment)
                places.append(place)
        stacked = torch.tensor(features)
        stacked[:, (0, 2)] = floor_log(stacked[:, (0, 2)])
        return _Read(segments, places, stacked, stacked @ self._weights)

    def _known(self, routed: Routed, i: int) -> torch.Tensor:
        return floor_log(torch.log1p(-routed.null_p[i].clamp(max=1 - 1e-6)))

    def _write(self, asked: list[list[list[int]]], routed: Routed, reads: list[_Read]) -> list[str]:
        """The model's own words from the k documents of each question, the one that most likely answers first."""
        model = self.checkpoint.model
        orders = [self._by_answer(read) for read in reads]
        flat = [(asked[i][place], int(routed.rows[i, place])) for i, order in enumerate(orders) for place in order]
        z = model.z[torch.tensor([row for _, row in flat], device=model.device)]
        texts = generate(model, z, [query for query, _ in flat], self.settings.max_new_tokens)
        written, position = [], 0
        for order in orders:
            own = texts[position : position + len(order)]
            written.append("\n".join(text for text in dict.fromkeys(own) if text))
            position += len(order)
        return written

    def _by_answer(self, read: _Read) -> list[int]:
        """Places of the read documents, the one with the best sentence first; those without a sentence are left out."""
        best: dict[int, float] = {}
        for place, score in zip(read.places, read.scores.tolist(), strict=True):
            best[place] = max(score, best.get(place, float("-inf")))
        return sorted(best, key=lambda place: -best[place])

    def _prior(self, row: int) -> torch.Tensor:
        """How likely each sentence of a document is when only its title is asked for; made once per document."""
        if row not in self._priors:
            model, document = self.checkpoint.model, self.checkpoint.documents[row]
            title = model.backbone.encode(document.title)
            _, (prior,) = read_sentences(model, model.z[[row]], [title], [self._sentences.ids[row]])
            self._priors[row] = torch.tensor(prior)
        return self._priors[row]
