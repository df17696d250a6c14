"""The questions of a system that are shown as examples, with evidence and answers marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zrag_core.answer_matching import answer_spans
from zrag_core.corpus.samples import hash_order
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.evaluation.html_report.marks import Piece, mark, shorten

ROUTED = 5
_PURPOSE = "report examples"
HOW_CHOSEN = (
    "A question's score is the mean of answer coverage and F1 of the answer, of those that are defined for it, and "
    "ROUGE-L where neither is; where the corpus does not answer the question, handing over evidence counts as coverage "
    "0. Best and worst are the highest and the lowest scores among the questions that were not refused; among equals "
    "ROUGE-L decides, then a hash of the question's id, and no question is in both lists. Refused are those for which "
    "the system said that it does not hold the answer: first the ones that the corpus does answer, and of these the "
    "most confident ones. Where a system gives a confidence and refused nothing, its least confident questions stand "
    "in their place."
)


@dataclass(frozen=True, slots=True)
class RoutedDocument:
    """A document that a system ranked for a question, with its score (comparable within the question)."""

    document_id: str
    title: str
    score: float | None
    gold: bool


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document's text with evidence and answers marked.

    Attributes:
        rank: place in the system's ranking from 1; None where it is not in it.
        used: whether evidence was taken from it.
        gold: whether it is one of the question's gold documents.
    """

    document_id: str
    title: str
    rank: int | None
    used: bool
    gold: bool
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One question as a system dealt with it.

    Attributes:
        evidence: its pieces, best first, each with the answer marked; empty where there is none.
        own_words: the evidence is the model's own text, so it has no place in a document.
        score: see `HOW_CHOSEN`; None where no measure is defined.
        reader: who answered; None where nothing was answered.
        error: why there is no answer, if the reader failed.
        verdict: the judge's; None where none was asked or there is none.
    """

    question: Question
    evidence: tuple[tuple[Piece, ...], ...]
    own_words: bool
    answerable: bool
    confidence: float | None
    score: float | None
    coverage: float | None
    rouge_l: float | None
    routed: tuple[RoutedDocument, ...]
    documents: tuple[SourceDocument, ...]
    reader: str | None
    answer: str | None
    error: str | None
    em: float | None
    f1: float | None
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of one system.

    Attributes:
        n_questions, n_refused: how many were asked and refused in all.
        unsure: the least confident questions where nothing was refused: what a threshold would refuse first.
    """

    system: str
    n_questions: int
    n_refused: int
    best: tuple[Example, ...]
    worst: tuple[Example, ...]
    refused: tuple[Example, ...]
    unsure: tuple[Example, ...]


def choose_examples(system: str, rows: pd.DataFrame, corpus: Corpus, limit: int) -> Examples:
    """Choose a system's best, worst and refused (or least confident) questions, see `HOW_CHOSEN`.

    Args:
        system: its name.
        rows: one row per question that the system was asked, at one budget: columns of the tables `evidence` and
            `scores` (answer_coverage, rouge_l), and reader, answer, error, em, f1 and verdict, null where nothing was
            answered (or judged).
        corpus: with the questions and documents that `rows` name.
        limit: at most this many of each kind; of fewer than twice as many questions half are best, half worst.

    Raises:
        ValueError: offsets of evidence that are not in the document's text.
    """
    questions = {question.id: question for question in corpus.questions}
    documents = {document.id: document for document in corpus.documents}
    found = [
        _example(row, questions[row["question_id"]], documents)
        for row in rows.astype(object).where(rows.notna(), None).to_dict("records")
    ]
    place = {name: number for number, name in enumerate(hash_order((e.question.id for e in found), 0, _PURPOSE))}
    scored = sorted(
        (example for example in found if example.answerable and example.score is not None),
        key=lambda example: (-(example.score or 0.0), -(example.rouge_l or 0.0), place[example.question.id]),
    )
    n_worst = min(limit, len(scored) // 2)
    refused = sorted(
        (example for example in found if not example.answerable),
        key=lambda e: (not in_corpus(e.question), -(e.confidence or 0.0), place[e.question.id]),
    )
    sure = sorted(
        (example for example in found if example.confidence is not None),
        key=lambda e: (e.confidence, place[e.question.id]),
    )
    return Examples(
        system,
        n_questions=len(found),
        n_refused=len(refused),
        best=tuple(scored[: min(limit, len(scored) - n_worst)]),
        worst=tuple(reversed(scored[len(scored) - n_worst :])),
        refused=tuple(refused[:limit]),
        unsure=() if refused else tuple(sure[:limit]),
    )


def in_corpus(question: Question) -> bool:
    """Whether the corpus answers the question."""
    return bool(question.document_ids or question.golden_answers)


def question_score(question: Question, coverage: float | None, f1: float | None, rouge_l: float | None) -> float | None:
    """Mean of coverage and F1 where they are defined, else ROUGE-L; see `HOW_CHOSEN`."""
    if not in_corpus(question):
        coverage = 0.0
    known = [value for value in (coverage, f1) if value is not None]
    return sum(known) / len(known) if known else rouge_l


def _example(row: Mapping[str, Any], question: Question, documents: Mapping[str, Document]) -> Example:
    golds, language = question.golden_answers, question.language
    ranked = [document_id for document_id in row["document_ids"] if document_id in documents]
    scores = dict(zip(row["document_ids"], row["scores"], strict=False))
    sources: dict[str, dict[int, tuple[int, int]]] = {}
    places = zip(row["source_document_ids"], row["source_start"], row["source_end"], strict=True)
    for number, (document_id, start, end) in enumerate(places, 1):
        sources.setdefault(document_id, {})[number] = (int(start), int(end))
    own_words = bool(row["evidence"]) and not sources
    return Example(
        question=question,
        evidence=tuple(
            mark(text, answers=answer_spans(text, golds, language))
            for text in _pieces_of(row["evidence"], sources, documents)
        ),
        own_words=own_words,
        answerable=bool(row["answerable"]),
        confidence=row["confidence"],
        score=question_score(question, row["answer_coverage"], row["f1"], row["rouge_l"]),
        coverage=row["answer_coverage"],
        rouge_l=row["rouge_l"],
        routed=tuple(
            RoutedDocument(name, documents[name].title, scores.get(name), name in question.document_ids)
            for name in ranked[:ROUTED]
        ),
        documents=tuple(
            SourceDocument(
                name,
                documents[name].title,
                rank=ranked.index(name) + 1 if name in ranked else None,
                used=name in sources,
                gold=name in question.document_ids,
                pieces=_document_pieces(documents[name], sources.get(name, {}), golds, language),
            )
            for name in _shown(sources, ranked if own_words else (), question)
            if name in documents
        ),
        reader=row["reader"],
        answer=row["answer"],
        error=row["error"],
        em=row["em"],
        f1=row["f1"],
        verdict=row["verdict"],
    )


def _pieces_of(
    evidence: str, sources: Mapping[str, Mapping[int, tuple[int, int]]], documents: Mapping[str, Document]
) -> list[str]:
    """The pieces that evidence is made of; evidence that is more than its verbatim pieces stays whole."""
    places = {number: (name, *place) for name, own in sources.items() for number, place in own.items()}
    pieces = [documents[name].text[start:end] for _, (name, start, end) in sorted(places.items())]
    return pieces if "\n".join(pieces) == evidence else [evidence]


def _shown(sources: Iterable[str], ranked: Sequence[str], question: Question) -> list[str]:
    """Documents to show: where the evidence is from, else the one ranked first, and the gold ones."""
    return list(dict.fromkeys([*sources, *ranked[:1], *question.document_ids]))


def _document_pieces(
    document: Document, evidence: Mapping[int, tuple[int, int]], golds: Sequence[str], language: str
) -> tuple[Piece, ...]:
    return shorten(mark(document.text, evidence, answer_spans(document.text, golds, language)))
