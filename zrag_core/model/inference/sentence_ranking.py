"""Ranks the sentences of the routed documents (constrained decoding) by a weighted sum of their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
    stacked = torch.tensor(rows).reshape(-1, len(SENTENCE_FEATURES))
    by_probability = sorted(spans, key=lambda span: -span.log_p)
    return Candidates(segments, places, stacked, stacked @ weights, by_probability)
