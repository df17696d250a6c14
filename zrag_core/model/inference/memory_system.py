"""The memory model as an evidence system: questions in, ranked evidence out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from zrag_core.corpus.types import Question
from zrag_core.evidence import Retrieved, Segment
from zrag_core.model.architecture.features import feature_ids
from zrag_core.model.architecture.sentence_features import confidence, floor_log, question_features, word_overlap
from zrag_core.model.architecture.slot_router import inverse_frequency
from zrag_core.model.architecture.spans import span_slots
from zrag_core.model.inference.decoder import (
    Routed,
    SentenceStore,
    find,
    generate,
    keep_best,
    read_sentences,
    route_again,
    route_all,
)
from zrag_core.model.inference.rank_fusion import RankFusion
from zrag_core.model.store.checkpoint import Checkpoint, load_checkpoint
from zrag_core.settings import DecodingSettings
from zrag_core.system_factory import SystemInputs
from zrag_core.systems import OWN_WORDS, SystemSpec

_RANKED = 10
_GENERATED = 128  # sequences decoded at once


@dataclass(frozen=True, slots=True)
class _Read:
    """What was found for one question.

    Attributes:
        segments: candidate sentences.
        places: which of the k read documents each sentence is from.
        features, scores: of the sentences, [C, F] and [C].
        spans: (place, span, log-probability by Z alone) of what may be read, best first.
    """

    segments: list[Segment]
    places: list[int]
    features: torch.Tensor
    scores: torch.Tensor
    spans: list[tuple[int, int, float]]


class MemorySystem:
    """Routes with Z, finds spans with Z and reads their slots.

    Constrained decoding ranks the sentences of the k routed documents by a weighted sum of what speaks for them (see
    `ranking.SENTENCE_FEATURES`): the probabilities of document and span and, under the policy `separated`, the words
    that query and sentence share; under `joint`, the likelihood given query and slots. Free decoding lets the model
    write from the spans that are most probable by Z alone; no text of the corpus has a part in it.

    Args:
        name: system name in tables.
        checkpoint: what is read.
        settings: k, steps, lengths and batch size.
        free: the model's own words instead of verbatim sentences.
        threads: CPU threads.
        fusion: what else ranks the documents that the question names (the second step is the model's alone: whatever
            shares words with question and evidence together is rarely where the evidence leads).
    """

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

    def judge(self, questions: Sequence[str]) -> list[tuple[list[Segment], torch.Tensor, torch.Tensor]]:
        """Candidate sentences of each question, their features [C, F], and log P(it is about something in memory)."""
        reads, routed, _ = self._read_all(questions)
        return [(read.segments, read.features, self._known(routed, i)) for i, read in enumerate(reads)]

    def _batch(self, questions: Sequence[Question]) -> list[Retrieved]:
        reads, routed, queries = self._read_all([question.question for question in questions])
        words = self._write(queries, routed, reads) if self.free else [None] * len(questions)
        weights = self.checkpoint.model.confidence_weights()
        results = []
        for i, (question, read, text) in enumerate(zip(questions, reads, words, strict=True)):
            sure = None
            if weights is not None and read.segments:
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
            if self.free:
                places = [place for place, _, _ in read.spans]
            else:
                places = [read.places[j] for j in torch.argsort(read.scores, descending=True, stable=True).tolist()]
            found = [rows[place] for place in dict.fromkeys(places)]
            order = found + [row for row in rows if row not in found]
        return [(row, scores[row]) for row in order]

    def _read_all(self, texts: Sequence[str]) -> tuple[list[_Read], Routed, list[list[list[int]]]]:
        """Route and read B questions in one or two steps.

        Returns:
            candidates of each question, the documents it was routed to, and the query (token ids) that each of its k
            read documents was asked: the question, or with the first evidence behind it.
        """
        model, k = self.checkpoint.model, self.settings.routed_documents
        limit = self.checkpoint.settings.joint.query_tokens
        queries = [model.backbone.encode(text, limit) for text in texts]
        width = max(_RANKED, k)
        first, null_p = route_all(model, texts, queries)
        if self._fusion is not None:
            first = self._fusion(texts, first)
        if model.encoder is None or self.settings.steps == 1 or len(self.checkpoint.documents) < 2:
            routed = keep_best(first, null_p, width)
            asked = [[query] * min(k, routed.rows.shape[1]) for query in queries]
        else:
            longer, sources = self._first_step(texts, queries, first, null_p)
            second = [model.backbone.encode(text, 2 * limit) for text in longer]
            routed = route_again(model, first, null_p, longer, second, sources, width)
            asked = [
                [second[i] if later else query for later in routed.second[i, :k].tolist()]
                for i, query in enumerate(queries)
            ]
        return self._read(texts, asked, routed), routed, asked

    def _first_step(
        self, texts: Sequence[str], queries: list[list[int]], log_p: torch.Tensor, null_p: torch.Tensor
    ) -> tuple[list[str], list[int]]:
        """Each question with the best evidence of the document that it names behind it, and that document's row."""
        best, rows = log_p.max(1)
        routed = Routed(rows[:, None], best[:, None], null_p, torch.zeros_like(rows[:, None], dtype=torch.bool))
        reads = self._read(texts, [[query] for query in queries], routed)
        if self.free:
            evidence = self._write([[query] for query in queries], routed, reads, spans=1)
        else:
            evidence = [read.segments[int(read.scores.argmax())].text if read.segments else "" for read in reads]
        return [f"{text} {found}" for text, found in zip(texts, evidence, strict=True)], rows.tolist()

    def _read(self, texts: Sequence[str], asked: list[list[list[int]]], routed: Routed) -> list[_Read]:
        """Find and score the sentences of the documents that each question is asked of."""
        model = self.checkpoint.model
        pairs = [(i, place, int(routed.rows[i, place])) for i, own in enumerate(asked) for place in range(len(own))]
        if not pairs:
            return [self._scored([], [], [], []) for _ in texts]
        rows = torch.tensor([row for _, _, row in pairs], device=model.device)
        found = find(model, [asked[i][place] for i, place, _ in pairs], model.z[rows], model.spans[rows])
        flat = [
            (pair, number)
            for pair, (_, _, row) in enumerate(pairs)
            for number in range(len(self._sentences.segments[row]))
        ]
        likelihood = self._likelihood(asked, pairs, flat) if model.encoder is None else [0.0] * len(flat)
        bags = [feature_ids(text) for text in texts]
        answers, log_p = floor_log(found.answers).tolist(), floor_log(found.log_p).tolist()
        kept: list[tuple[list[Segment], list[int], list[list[float]], list[tuple[int, int, float]]]] = [
            ([], [], [], []) for _ in texts
        ]
        for (pair, number), value in zip(flat, likelihood, strict=True):
            i, place, row = pairs[pair]
            span = self._sentences.spans[row][number]
            words = word_overlap(bags[i], self._sentences.features(row)[number], self._idf)
            routing = [float(floor_log(routed.log_p[i, place])), float(routed.second[i, place])]
            prior = float(self._prior(row)[number]) if model.encoder is None else 0.0
            segments, places, features, spans = kept[i]
            segments.append(self._sentences.segments[row][number])
            places.append(place)
            features.append([*routing, answers[pair], log_p[pair][span], value, prior, words])
            unit = (place, span, routing[0] + answers[pair] + log_p[pair][span])
            if unit not in spans:
                spans.append(unit)
        return [self._scored(*own) for own in kept]

    def _scored(
        self,
        segments: list[Segment],
        places: list[int],
        features: list[list[float]],
        spans: list[tuple[int, int, float]],
    ) -> _Read:
        stacked = torch.tensor(features).reshape(-1, len(self._weights))
        spans = sorted(spans, key=lambda unit: -unit[2])
        return _Read(segments, places, stacked, stacked @ self._weights, spans)

    def _likelihood(
        self, asked: list[list[list[int]]], pairs: list[tuple[int, int, int]], flat: list[tuple[int, int]]
    ) -> list[float]:
        """Nats per token of candidate sentences given the query and all slots of their document (policy `joint`)."""
        store = self._sentences
        rows = [pairs[pair][2] for pair, _ in flat]
        z, used = self._slots(rows, [store.spans[row][number] for row, (_, number) in zip(rows, flat, strict=True)])
        queries = [asked[pairs[pair][0]][pairs[pair][1]] for pair, _ in flat]
        sentences = [store.ids[row][number] for row, (_, number) in zip(rows, flat, strict=True)]
        return read_sentences(self.checkpoint.model, z, used, queries, sentences).tolist()

    def _slots(self, rows: list[int], spans: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        model = self.checkpoint.model
        chosen = torch.tensor(rows, device=model.device, dtype=torch.long)
        return span_slots(model.z[chosen], model.spans[chosen], spans)

    def _known(self, routed: Routed, i: int) -> torch.Tensor:
        return floor_log(torch.log1p(-routed.null_p[i].clamp(max=1 - 1e-6))).cpu()

    def _write(
        self, asked: list[list[list[int]]], routed: Routed, reads: list[_Read], spans: int | None = None
    ) -> list[str]:
        """The model's own words from the most probable spans of each question, in their order."""
        model = self.checkpoint.model
        units = [read.spans[: spans or self.settings.free_spans] for read in reads]
        flat = [(i, place, span) for i, own in enumerate(units) for place, span, _ in own]
        texts: list[str] = []
        for start in range(0, len(flat), _GENERATED):
            part = flat[start : start + _GENERATED]
            z, used = self._slots([int(routed.rows[i, place]) for i, place, _ in part], [span for _, _, span in part])
            queries = [asked[i][place] for i, place, _ in part]
            texts.extend(generate(model, z, used, queries, self.settings.max_new_tokens))
        written, position = [], 0
        for own in units:
            distinct = dict.fromkeys(texts[position : position + len(own)])
            written.append("\n".join(text for text in distinct if text))
            position += len(own)
        return written

    def _prior(self, row: int) -> torch.Tensor:
        """How likely each sentence of a document is when only its title is asked for; made once per document."""
        if row not in self._priors:
            ids = self._sentences.ids[row]
            title = self.checkpoint.model.backbone.encode(self.checkpoint.documents[row].title)
            z, used = self._slots([row] * len(ids), self._sentences.spans[row])
            self._priors[row] = read_sentences(self.checkpoint.model, z, used, [title] * len(ids), ids)
        return self._priors[row]


def make_memory_system(spec: SystemSpec, inputs: SystemInputs) -> MemorySystem:
    """The memory of the spec's policy; its routing is fused with BM25's ranking where the spec reads that index."""
    settings = inputs.settings
    checkpoint = load_checkpoint(inputs.checkpoints[str(spec.policy)], device=settings.backbone.device)
    fusion = None
    if "bm25" in spec.indexes:
        fusion = RankFusion(inputs.make("bm25"), checkpoint.documents, rrf_k=settings.baselines.rrf_k)
    free, threads = spec.evidence == OWN_WORDS, settings.backbone.threads
    return MemorySystem(spec.name, checkpoint, settings.decoding, free=free, threads=threads, fusion=fusion)
