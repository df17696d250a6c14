"""The check of deletion: whether a deleted document's facts are still told, and how often they would be guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zrag_core.corpus.types import Document
from zrag_core.model.checks.catalog import judged
from zrag_core.model.checks.check_spec import MemoryCheck
from zrag_core.model.checks.probe import Probe
from zrag_core.text import search_terms

_FOLDS = 5
_ALIKE = 8  # questions whose evidence makes up the guessing floor of one


@dataclass(frozen=True, slots=True)
class WithheldEvidence:
    """Free evidence for a question whose gold documents could not be read.

    Attributes:
        number: of the question in the probe.
        row: of Z that was read.
        gold: ids of the gold documents.
        wording: terms of the question, without those of the gold documents' titles.
    """

    number: int
    row: int
    text: str
    gold: frozenset[str]
    wording: frozenset[str]


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
    evidence = withheld_evidence(probe, pairs, [[probe.documents[row] for row in asked.gold] for asked in probe.asked])
    floor = guessing_floor(probe, evidence, evidence)
    return [
        judged("deleted_leak_coverage", withheld_coverage(probe, evidence), floor),
        MemoryCheck("deleted_floor_coverage", None, floor),
    ]


def withheld_evidence(
    probe: Probe, pairs: Sequence[tuple[int, int]], gold: Sequence[Sequence[Document]]
) -> list[WithheldEvidence]:
    """Free evidence of (question number, row read) pairs.

    Args:
        gold: the gold documents of every question of the probe.
    """
    found = []
    for (number, row), text in zip(pairs, probe.free_texts(pairs), strict=True):
        names = {term for document in gold[number] for term in search_terms(document.title)}
        wording = frozenset(search_terms(probe.asked[number].question.question)) - names
        found.append(WithheldEvidence(number, row, text, frozenset(item.id for item in gold[number]), wording))
    return found


def withheld_coverage(probe: Probe, evidence: Sequence[WithheldEvidence]) -> float:
    """Share of the evidence in which an answer stands."""
    return probe.coverage([item.number for item in evidence], [item.text for item in evidence])


def guessing_floor(probe: Probe, own: Sequence[WithheldEvidence], pool: Sequence[WithheldEvidence]) -> float:
    """How often the answers to `own` stand in the evidence of the questions most alike among those of `pool`.

    Questions about the same document, and what was read where the answer may stand, are left out.
    """
    shares = []
    for item in own:
        others = [
            (len(item.wording & other.wording) / max(1, len(item.wording | other.wording)), other.text)
            for other in pool
            if not item.gold & other.gold and not probe.states_answer(item.number, other.row)
        ]
        others.sort(key=lambda scored: -scored[0])
        if others:
            shares.append(np.mean([probe.covered(item.number, text) for _, text in others[:_ALIKE]]))
    return float(np.mean(shares)) if shares else 0.0


def _deleted_pairs(probe: Probe) -> Iterator[tuple[int, int]]:
    fold = {row: place % _FOLDS for place, row in enumerate(probe.rows_in_hash_order("deletion"))}
    for deleted in range(_FOLDS):
        kept = [row for row in range(len(probe.documents)) if fold[row] != deleted]
        numbers = [number for number, asked in enumerate(probe.asked) if fold[asked.gold[0]] == deleted]
        if not kept or not numbers:
            continue
        ranked = probe.scores(numbers, kept).argsort(dim=1, descending=True).tolist()
        for number, columns in zip(numbers, ranked, strict=True):
            best = probe.first_silent(number, [kept[column] for column in columns])
            if best is not None:
                yield number, best
