"""Finds where evidence and answers stand in a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain

from zrag_core.answer_matching import answer_coverage
from zrag_core.sentences import split_sentences
from zrag_core.text import TextSlice, words

_CJK_END = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]$")
# Sentences of so many words do not stand in another text by chance.
_LEAST_WORDS = 3


def holds_answer(text: str, answers: Sequence[str], language: str) -> bool | None:
    """Whether one of the answers stands in `text`; None without answers and for yes and no, which stand in no text.

    The rules are those of `answer_coverage`.
    """
    return answer_coverage(text, answers, language)


def answer_sentence(text: str, answers: Sequence[str], language: str) -> str | None:
    """Return the first sentence of `text` that holds the first answer found in one, or None.

    Better answers come first, so each is looked for in the whole text before the next one. A Korean answer that
    starts no word is looked for inside words as well.
    """
    if answer_coverage(text, answers, language) is None:
        return None
    sentences = [sentence.text for sentence in split_sentences(text)]
    whole = (s for a in answers for s in sentences if holds_answer(s, [a], language))
    within = (s for a in answers for s in sentences if _inside(s, a))
    return next(chain(whole, within), None)


def _inside(text: str, answer: str) -> bool:
    """Whether a Korean, Chinese or Japanese answer stands in `text`, inside words too."""
    wanted = unicodedata.normalize("NFKC", answer).casefold().strip()
    if len(wanted) < 2 or not _CJK_END.search(wanted):
        return False
    return wanted in unicodedata.normalize("NFKC", text).casefold()


def evidence_offsets(text: str, evidence: str) -> list[tuple[int, int]]:
    """Return the offsets (start, end) in characters of `text` where the evidence, or parts of it, stand.

    The evidence is looked for as a whole and then, since it may be joined from several places or documents, sentence
    by sentence, and where such a join hid a sentence end, by the sentences of `text` that stand in it. White space
    may differ. An empty list means that nothing of it is there.
    """
    whole = find_text(text, evidence)
    if whole is not None:
        return [whole]
    offsets: list[tuple[int, int]] = []
    for piece in split_sentences(evidence):
        found = find_text(text, piece.text)
        if found is not None:
            offsets.append(found)
        else:
            offsets += [(own.start, own.end) for own in _whole_sentences(text) if find_text(piece.text, own.text)]
    return offsets


def unsupported_text(evidence: str, texts: Sequence[str]) -> str:
    """Return what is left of the evidence when everything that stands in one of the texts is taken out."""
    rest = [piece.text for piece in split_sentences(evidence)]
    rest = [piece for piece in rest if not any(find_text(text, piece) for text in texts)]
    if rest:
        known = sorted((own.text for text in texts for own in _whole_sentences(text)), key=len, reverse=True)
        for sentence in known:
            rest = [_without(piece, sentence) for piece in rest]
    return " ".join(" ".join(rest).split())


def _whole_sentences(text: str) -> list[TextSlice]:
    return [sentence for sentence in split_sentences(text) if len(words(sentence.text)) >= _LEAST_WORDS]


def _without(text: str, part: str) -> str:
    found = find_text(text, part)
    return text if found is None else f"{text[: found[0]]} {text[found[1] :]}"


def find_text(text: str, wanted: str) -> tuple[int, int] | None:
    """The offsets of `wanted` in `text`, whatever the white space between its words; None where it is not there."""
    tokens = wanted.split()
    if not tokens:
        return None
    start = text.find(wanted)
    if start >= 0:
        return start, start + len(wanted)
    match = re.search(r"\s+".join(map(re.escape, tokens)), text)
    return match.span() if match else None
