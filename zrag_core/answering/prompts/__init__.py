"""Versioned prompt templates, one file per purpose, version and language.

A template is made of `## NAME` sections; where it is a chat, the last part of a name is the role. A changed wording
gets a new version number: the prompt hash keeps answers to different wordings apart, the number tells people which is
which.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from importlib import resources
from string import Template

from zrag_core.answering.types import Messages
from zrag_core.errors import AnsweringError
from zrag_core.text import words

PROMPT_VERSION = "v1"
REFUSALS = {"en": "not in the evidence", "ko": "증거에 없음"}

_SECTION = re.compile(r"^## ([a-z_.]+)\n", re.MULTILINE)
_KOREAN_REFUSAL = re.compile(r"증거에(는)?\s*(나와\s*있지\s*않|없(음|다|습니다|어요|는))")
# Words that a model may wrap around the refusal ("The answer is ... ."), and no more.
_REFUSAL_SLACK = 6


@cache
def load_template(
    purpose: str, language: str, *, package: str = __name__, version: str = PROMPT_VERSION
) -> dict[str, Template]:
    """Return the sections of the template for `purpose` ("answer", "questions") in `language`.

    Args:
        package: where the template files are; others than these have versions of their own.

    Raises:
        AnsweringError: there is no template in that language.
    """
    file = resources.files(package) / f"{purpose}_{version}.{language}.txt"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AnsweringError(
            f"no '{purpose}' prompt in language '{language}'", remedy=f"use one of: {', '.join(REFUSALS)}"
        ) from None
    parts = _SECTION.split(text)
    return {name: Template(body.strip()) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def build_messages(
    question: str, evidence: str, language: str, closed_book: bool = False, *, purpose: str = "answer"
) -> Messages:
    """Return the chat messages that ask `question`.

    With `closed_book` the model answers from what it knows and `evidence` is left out; otherwise
    it may use nothing but the evidence, even where that is empty.

    Args:
        purpose: the template: "answer", or "answer_small" for models that follow examples better than rules.
    """
    sections = load_template(purpose, language)
    values = {"question": question.strip(), "evidence": evidence.strip(), "refusal": REFUSALS[language]}
    return [
        {"role": name.rpartition(".")[2], "content": body.substitute(values)}
        for name, body in sections.items()
        if name.startswith("closed_book.") == closed_book
    ]


def prompt_hash(model: str, temperature: float, max_tokens: int, messages: Messages) -> str:
    """Return the SHA-256 (hex) of everything that decides an answer."""
    payload = json.dumps([model, float(temperature), max_tokens, messages], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(payload.encode("utf-8")).hexdigest()


def is_refusal(answer: str) -> bool:
    """Whether `answer` says, in either language, that the evidence does not hold the answer."""
    if _KOREAN_REFUSAL.search(answer):
        return len(words(answer)) <= _REFUSAL_SLACK + 2
    given, refusal = words(answer), words(REFUSALS["en"])
    if len(given) > len(refusal) + _REFUSAL_SLACK:
        return False
    return any(given[i : i + len(refusal)] == refusal for i in range(len(given) - len(refusal) + 1))
