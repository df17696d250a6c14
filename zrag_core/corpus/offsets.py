"""Where evidence and answers stand in a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from zrag_core.corpus.types import Document, Question
from zrag_core.text import TextSlice, search_terms, split_sentences, words

# Answers that stand in no text: they say whether something is so.
_YES_NO = frozenset({"yes", "no", "예", "네", "아니오", "아니요"})
_CJK_END = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]$")

_LEAST_WORDS = 3


def normalized(text: str) -> str:
    """Casefolded words joined by spaces (or the casefolded text where it holds no word): equal texts compare equal."""
    return " ".join(words(text)) or unicodedata.normalize("NFKC", text).casefold().strip()


def is_yes_no(answer: str) -> bool:
    """Whether an answer is a bare yes or no, in English or Korean."""
    return normalized(answer) in _YES_NO


def holds_answer(text: str, answers: Iterable[str]) -> bool:
    """Whether one of the answers stands in `text` as a sequence of normalised words.

    The last word of an answer in Hangul, Han or Kana may go on (a Korean word carries its particles). Bare yes and
    no are never found, since they say nothing about a place.
    """
    padded = f" {' '.join(words(text))} "
    return any(_needle(answer) in padded for answer in answers if words(answer) and not is_yes_no(answer))


def _needle(answer: str) -> str:
    sequence = " ".join(words(answer))
    return f" {sequence}" if _CJK_END.search(sequence) else f" {sequence} "


def answer_sentence(text: str, answers: Sequence[str]) -> str | None:
    """Return the first sentence of `text` that holds the first answer found in one, or None.

    Better answers come first, so each is looked for in the whole text before the next one. A Korean, Chinese or
    Japanese answer that starts no word is looked for inside words as well.
    """
    sentences = split_sentences(text)
    for answer in answers:
        for sentence in sentences:
            if holds_answer(sentence.text, [answer]):
                return sentence.text
    for answer in answers:
        inside = unicodedata.normalize("NFKC", answer).casefold().strip()
        if len(inside) < 2 or not _CJK_END.search(inside) or is_yes_no(answer):
            continue
        for sentence in sentences:
            if inside in unicodedata.normalize("NFKC", sentence.text).casefold():
                return sentence.text
    return None


def evidence_ranges(text: str, evidence: str) -> list[tuple[int, int]]:
    """Return the character ranges of `text` that hold the evidence, or parts of it.

    The evidence is looked for as a whole and then, since it may be joined from several places or documents, sentence
    by sentence, and where such a join hid a sentence end, by the sentences of `text` that stand in it. White space
    may differ. An empty list means that nothing of it is there.
    """
    whole = _find(text, evidence)
    if whole is not None:
        return [whole]
    ranges: list[tuple[int, int]] = []
    for piece in split_sentences(evidence):
        found = _find(text, piece.text)
        if found is not None:
            ranges.append(found)
        else:
            ranges += [(own.start, own.end) for own in _whole_sentences(text) if _find(piece.text, own.text)]
    return ranges


def unsupported(evidence: str, texts: Sequence[str]) -> str:
    """Return what is left of the evidence when everything that stands in one of the texts is taken out."""
    rest = [piece.text for piece in split_sentences(evidence)]
    rest = [piece for piece in rest if not any(_find(text, piece) for text in texts)]
    if rest:
        known = sorted((own.text for text in texts for own in _whole_sentences(text)), key=len, reverse=True)
        for sentence in known:
            rest = [_without(piece, sentence) for piece in rest]
    return " ".join(" ".join(rest).split())


def _whole_sentences(text: str) -> list[TextSlice]:
    """Sentences long enough not to stand in another text by chance."""
    return [sentence for sentence in split_sentences(text) if len(words(sentence.text)) >= _LEAST_WORDS]


def _without(text: str, part: str) -> str:
    found = _find(text, part)
    return text if found is None else f"{text[: found[0]]} {text[found[1] :]}"


def _find(text: str, wanted: str) -> tuple[int, int] | None:
    tokens = wanted.split()
    if not tokens:
        return None
    start = text.find(wanted)
    if start >= 0:
        return start, start + len(wanted)
    match = re.search(r"\s+".join(map(re.escape, tokens)), text)
    return match.span() if match else None


class TextIndex:
    """Finds the documents that may hold one of a set of texts, by the search terms of these texts alone.

    Args:
        documents: where to look.
        wanted: the texts (answers, evidence) that will be asked for; nothing else is indexed, so that memory
            stays small beside the corpus.
    """

    def __init__(self, documents: Sequence[Document], wanted: Iterable[str]):
        self._postings: dict[str, set[int]] = {term: set() for text in wanted for term in search_terms(text)}
        for position, document in enumerate(documents):
            for term in self._postings.keys() & search_terms(document.text):
                self._postings[term].add(position)

    def candidates(self, text: str) -> list[int]:
        """Positions of the documents that hold every search term of `text`, in order."""
        postings = [self._postings.get(term, set()) for term in set(search_terms(text))]
        return sorted(set.intersection(*postings)) if postings else []


class EvidenceFinder:
    """Finds a question's evidence: the corpus' own where it has some, else the sentence that holds the answer.

    Args:
        documents: the corpus.
        questions: the questions that will be asked for (they decide what is indexed).
    """

    def __init__(self, documents: Sequence[Document], questions: Iterable[Question]):
        self._documents = documents
        self._by_id = {document.id: document for document in documents}
        unplaced = [question for question in questions if not question.document_ids]
        wanted = [text for question in unplaced for text in (*question.golden_answers, question.evidence or "")]
        self._index = TextIndex(documents, wanted)

    def find(self, question: Question) -> tuple[str, tuple[str, ...], str] | None:
        """Return (evidence, ids of the documents that hold it, method) or None.

        The method is "gold" or "answer_sentence". Where gold documents are not known the whole corpus is searched,
        and what is found counts only if a single document holds it.
        """
        if question.evidence is not None:
            return question.evidence, question.document_ids or self._holding_evidence(question.evidence), "gold"
        if question.document_ids:
            for document_id in question.document_ids:
                sentence = answer_sentence(self._by_id[document_id].text, question.golden_answers)
                if sentence is not None:
                    return sentence, (document_id,), "answer_sentence"
            return None
        found = [hit for answer in question.golden_answers for hit in self._holding_answer(answer)]
        if len({document_id for document_id, _ in found}) != 1:
            return None
        document_id, sentence = found[0]
        return sentence, (document_id,), "answer_sentence"

    def _holding_evidence(self, evidence: str) -> tuple[str, ...]:
        candidates = (self._documents[position] for position in self._index.candidates(evidence))
        holders = tuple(document.id for document in candidates if _find(document.text, evidence) is not None)
        return holders if len(holders) == 1 else ()

    def _holding_answer(self, answer: str) -> list[tuple[str, str]]:
        hits = []
        for position in self._index.candidates(answer):
            sentence = answer_sentence(self._documents[position].text, [answer])
            if sentence is not None:
                hits.append((self._documents[position].id, sentence))
        return hits
