"""The memory check of deletion: whether a deleted document's facts are still told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from zrag_core.model.probing import Probe
from zrag_core.model.thresholds import THRESHOLDS, MemoryCheck
from zrag_core.text import search_terms

_FOLDS = 5
_ALIKE = 8  # questions whose evidence makes up the guessing floor of one


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
    floor = _guessing_floor(probe, pairs, texts)
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


def _guessing_floor(probe: Probe, pairs: Sequence[tuple[int, int]], texts: Sequence[str]) -> float:
    wordings = [_wording(probe, number) for number, _ in pairs]
    shares = []
    for (number, _), own in zip(pairs, wordings, strict=True):
        gold = set(probe.asked[number].gold)
        others = [
            (len(own & wording) / max(1, len(own | wording)), text)
            for (other, row), wording, text in zip(pairs, wordings, texts, strict=True)
            if not gold.intersection(probe.asked[other].gold) and not probe.states_answer(number, row)
        ]
        others.sort(key=lambda item: -item[0])
        if others:
            shares.append(np.mean([probe.covered(number, text) for _, text in others[:_ALIKE]]))
    return float(np.mean(shares)) if shares else 0.0


def _wording(probe: Probe, number: int) -> set[str]:
    """What a question asks, without the name of whom it asks about."""
    asked = probe.asked[number]
    names = {term for row in asked.gold for term in search_terms(probe.documents[row].title)}
    return set(search_terms(asked.question.question)) - names
