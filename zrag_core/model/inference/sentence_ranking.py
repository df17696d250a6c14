"""Ranks the sentences of the routed documents (constrained decoding) by a weighted sum of their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from zrag_core.evidence import Segment
from zrag_core.model.architecture.sentence_features import SENTENCE_FEATURES, SentenceFeatures
from zrag_core.model.inference.sentence_store import SentenceStore


@dataclass(frozen=True, slots=True)
class ReadPair:
    """A question and a document that it is asked of.

    Attributes:
        question: number of the question in its batch.
        place: of the document in the question's routing.
        row: of the document in Z.
    """

    question: int
    place: int
    row: int


class ReadSpan(NamedTuple):
    """A span that may be read for a question, with its log-probability by Z alone."""

    place: int
    span: int
    log_p: float


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidate sentences of one question.

    Attributes:
        segments: the sentences.
        places: which of the k read documents each sentence is from.
        features, scores: of the sentences, [C, F] and [C].
        spans: what may be read, most probable first.
    """

    segments: list[Segment]
    places: list[int]
    features: torch.Tensor
    scores: torch.Tensor
    spans: list[ReadSpan]

    def order(self) -> list[int]:
        """Numbers of the sentences, best first."""
        order: list[int] = torch.argsort(self.scores, descending=True, stable=True).tolist()
        return order

    def at(self, numbers: Sequence[int]) -> Candidates:
        """Those of these numbers, in this order; of candidates whose spans are aligned with them."""
        own = list(numbers)
        return Candidates(
            [self.segments[j] for j in own],
            [self.places[j] for j in own],
            self.features[own],
            self.scores[own],
            [self.spans[j] for j in own],
        )

    def best(self) -> Candidates:
        """The best sentence alone; of candidates whose spans are aligned with them, best first."""
        return self.at(range(min(1, len(self.segments))))

    def split(self, n: int) -> tuple[Candidates, Candidates]:
        """The first n and the others; of candidates whose spans are aligned with them."""
        return self.at(range(min(n, len(self.segments)))), self.at(range(n, len(self.segments)))

    def followed_by(self, others: Candidates) -> Candidates:
        """These, then the others."""
        return Candidates(
            self.segments + others.segments,
            self.places + others.places,
            torch.cat([self.features, others.features]),
            torch.cat([self.scores, others.scores]),
            self.spans + others.spans,
        )

    def moved(self, place: int) -> Candidates:
        """The same sentences of a document that stands elsewhere in a routing."""
        spans = [span._replace(place=place) for span in self.spans]
        return replace(self, places=[place] * len(self.places), spans=spans)

    def without(self, others: Candidates) -> Candidates:
        """Those that are not among others of the same routing."""
        taken = {(span.place, span.span) for span in others.spans}
        return self.at([j for j, span in enumerate(self.spans) if (span.place, span.span) not in taken])

    def ahead_of(self, others: Candidates) -> Candidates:
        """These, then the others, whose scores are lowered as a whole where they are higher."""
        if not (self.segments and others.segments):
            return self if self.segments else others
        above = float(others.scores.max() - self.scores.min())
        return self.followed_by(replace(others, scores=others.scores - max(0.0, above)))


def rank_sentences(
    read: Sequence[tuple[ReadPair, list[SentenceFeatures]]], sentences: SentenceStore, weights: torch.Tensor
) -> Candidates:
    """Scores the sentences of the documents that were read for one question: features [C, F] times weights [F]."""
    segments: list[Segment] = []
    places: list[int] = []
    rows: list[SentenceFeatures] = []
    spans: dict[ReadSpan, None] = {}
    for pair, features in read:
        segments += sentences.segments[pair.row]
        places += [pair.place] * len(features)
        rows += features
        for span, own in zip(sentences.spans[pair.row], features, strict=True):
            spans[ReadSpan(pair.place, span, own.route + own.answers + own.find)] = None
    stacked = torch.from_numpy(np.array(rows, np.float32)).reshape(-1, len(SENTENCE_FEATURES))
    by_probability = sorted(spans, key=lambda span: -span.log_p)
    return Candidates(segments, places, stacked, stacked @ weights, by_probability)
