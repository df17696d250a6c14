"""Parts of the answer-span scorers of both languages: the form of a question, and distances in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QuestionForm:
    """The form of a question.

    Attributes:
        type: of the answer: time, number, who, where ...
        stems: of the question's content words.
        noun: that names the kind of answer ("which *team* won"); "" for none.
        last: stem of the last content word; "" where it does not count.
    """

    type: str
    stems: frozenset[str]
    noun: str
    last: str = ""


def answer_type(patterns: Iterable[tuple[str, str]], question: str, default: str) -> str:
    """The first type whose pattern is found in the question."""
    return next((name for name, pattern in patterns if re.search(pattern, question)), default)


def distances(places: Sequence[int], start: int, end: int) -> list[int]:
    """Distances in words, from 1, of the `places` outside the words `start` to `end` from the nearer end."""
    return [start - place if place < start else place - end + 1 for place in places if not start <= place < end]
