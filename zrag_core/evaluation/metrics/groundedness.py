"""Groundedness: whether the evidence stands in the documents that it is said to come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from zrag_core.evaluation.metrics.metric import Metric, Outcome
from zrag_core.sentences import split_sentences


def grounded(evidence: str, documents: Mapping[str, str]) -> float | None:
    """Share of the evidence's sentences that stand verbatim in the named documents.

    White space is normalised. A sentence cut short by a budget counts, since its start stands there.

    Args:
        evidence: evidence text; each line is split into sentences.
        documents: texts of the documents that the evidence is said to come from, by id.

    Returns:
        Share in [0, 1]; None for empty evidence.
    """
    pieces = _pieces(evidence)
    if not pieces:
        return None
    return 1 - len(unsupported_sentences(evidence, documents.values())) / len(pieces)


def unsupported_sentences(evidence: str, texts: Iterable[str]) -> tuple[str, ...]:
    """The evidence's sentences that stand in none of some texts; white space does not matter."""
    normal = [form for text in texts for form in _forms(text)]
    return tuple(piece for piece in _pieces(evidence) if not any(piece in text for text in normal))


@lru_cache(maxsize=4096)
def _forms(text: str) -> tuple[str, ...]:
    """The text, and what those of its sentences say that are not read as they stand there."""
    return (_one_space(text), *(_one_space(s.reading) for s in split_sentences(text) if s.reading != s.text))


def _pieces(evidence: str) -> list[str]:
    return [_one_space(sentence.text) for line in evidence.splitlines() for sentence in split_sentences(line)]


@lru_cache(maxsize=4096)
def _one_space(text: str) -> str:
    return " ".join(text.split())


def _score(outcome: Outcome) -> float | None:
    if outcome.documents is None:
        return None
    named = {name: outcome.documents[name] for name in outcome.document_ids if name in outcome.documents}
    return grounded(outcome.evidence, named)


METRICS = (Metric("grounded", "grounded", "evidence", _score, interval=False, shown="never"),)
