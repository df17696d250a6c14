"""The memory check of deletion: whether a deleted document's facts are still told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zrag_core.corpus.types import Document, Question
from zrag_core.model.checks.probe import Probe
from zrag_core.model.checks.thresholds import THRESHOLDS, MemoryCheck
from zrag_core.text import search_terms

_FOLDS = 5
_ALIKE = 8  # questions whose evidence makes up the guessing floor of one


@dataclass(frozen=True, slots=True)
class Told:
    """What was told when a question's gold documents could not be read.

    Attributes:
        number: of the question in the probe.
        row: that was read.
        text: what was told.
        gold: ids of the gold documents.
        wording: what is asked, without the names of whom it is asked about.
    """

    number: int
    row: int
    text: str
    gold: frozenset[str]
    wording: frozenset[str]

    @classmethod
    def of(cls, number: int, row: int, text: str, question: Question, gold: Sequence[Document]) -> Told:
        """Of a question and its gold documents."""
        names = {term for document in gold for term in search_terms(document.title)}
        wording = frozenset(search_terms(question.question)) - names
        return cls(number, row, text, frozenset(document.id for document in gold), wording)


def deleted_leak_coverage(probe: Probe) -> list[MemoryCheck]:
    """Coverage on questions about deleted documents, beside the guessing floor.

    Every fifth of the documents is deleted in turn, and questions about them are routed among the others. The best
    of those is read, except documents that say the answer themselves: those still know it by right.

    The floor (`deleted_floor_coverage`) is what guessing covers: how often the question's answer stands in the
    evidence written, under the same deletion, for the questions most alike in wording about other documents. Other
    slots under the same question would not do as a floor, since knowledge in theta would raise it as well.
    """
    pairs = list(_deleted_pairs(probe))
    if not pairs:
        return []
    texts = probe.free_texts(pairs)
    value = probe.coverage([number for number, _ in pairs], texts)
    told = [
        Told.of(number, row, text, asked.question, [probe.documents[gold] for gold in asked.gold])
        for (number, row), text in zip(pairs, texts, strict=True)
        for asked in [probe.asked[number]]
    ]
    floor = guessing_floor(probe, told, told)
    threshold = floor + THRESHOLDS["deleted_leak_coverage"].value
    return [
        MemoryCheck("deleted_leak_coverage", None, value, threshold, value <= threshold),
        MemoryCheck("deleted_floor_coverage", None, floor),
    ]


def _deleted_pairs(probe: Probe) -> Iterator[tuple[int, int]]:
    fold = {row: place % _FOLDS for place, row in enumerate(probe.rows_in_hash_order("deletion"))}
    for deleted in range(_FOLDS):
        kept = [row for row in range(len(probe.documents)) if fold[row] != deleted]
        numbers = [number for number, asked in enumerate(probe.asked) if fold[asked.gold[0]] == deleted]
        if not kept or not numbers:
            continue
        ranked = probe.scores(numbers, kept).argsort(dim=1, descending=True).tolist()
        for number, columns in zip(numbers, ranked, strict=True):
            others = (kept[column] for column in columns)
            best = next((row for row in others if not probe.states_answer(number, row)), None)
            if best is not None:
                yield number, best


def guessing_floor(probe: Probe, own: Sequence[Told], pool: Sequence[Told]) -> float:
    """How often the answers of `own` stand in what was told for the questions most alike among those of `pool`.

    Questions about the same document, and what was read where the answer may stand, are left out.
    """
    shares = []
    for told in own:
        others = [
            (len(told.wording & other.wording) / max(1, len(told.wording | other.wording)), other.text)
            for other in pool
            if not told.gold & other.gold and not probe.states_answer(told.number, other.row)
        ]
        others.sort(key=lambda item: -item[0])
        if others:
            shares.append(np.mean([probe.covered(told.number, text) for _, text in others[:_ALIKE]]))
    return float(np.mean(shares)) if shares else 0.0
