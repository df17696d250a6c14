"""Parses a model's reply into at most three clues, whatever kind of list it wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable

from zrag_core.answering.thinking import strip_thinking
from zrag_core.text import truncate_to_tokens, words

MOST_CLUES = 3
# In evidence tokens (UTF-8 bytes / 4): about 60 English words. What is longer is a passage, not a clue to one, and its
# words would drown the others' in a lexical index.
LONGEST_CLUE = 96

_BULLET = re.compile(r"[-*+•‣◦·–—>#]+\s+|\(\d{1,2}\)\s*|\d{1,2}[.):](?:\s+|(?=\D)|$)|[①-⑳]\s*")
_LABEL = re.compile(
    r"(?:(?:surrogate |clue )?questions?|(?:text )?spans?|clues?|대체 ?질문|질문|본문 ?조각|본문|단서)"
    r"(?:\s*#?\d{1,2})?(?:\s*\([^)]*\))?\s*[:：]\s*",
    re.IGNORECASE,
)
_QUOTES = ('""', "''", "``", "“”", "‘’", "「」", "『』", "«»")


def parse_clues(text: str, question: str, draft: str) -> tuple[str, ...]:
    """Take the clues out of a model's reply.

    Numbers, bullets, labels, quotation marks and the reasoning of thinking models are taken off; headings, code fences,
    repetitions and the question itself are left out; long lines are cut. Where nothing is left the draft is the clue.

    Args:
        text: what the model wrote, by instruction one clue a line.
        question: what is looked for anyway.
        draft: may be empty.
    """
    lines = strip_thinking(text).splitlines()
    return tidy_clues(lines, question) or tidy_clues([" ".join(draft.split())], question)


def tidy_clues(lines: Iterable[str], question: str) -> tuple[str, ...]:
    """The first `MOST_CLUES` usable lines; see `parse_clues`."""
    seen = {tuple(words(question))}
    kept: list[str] = []
    for line in lines:
        clue = _bare(line)
        # A line that ends with a colon announces the clues.
        if clue.endswith((":", "：")) or clue.startswith("```"):
            continue
        clue = truncate_to_tokens(clue, LONGEST_CLUE)
        key = tuple(words(clue))
        if key and key not in seen:
            seen.add(key)
            kept.append(clue)
    return tuple(kept[:MOST_CLUES])


def _bare(line: str) -> str:
    """A line without list marks, labels, bold type and quotation marks around it, however they are nested."""
    line = line.replace("**", "").strip()
    while True:
        before = line
        for pattern in (_BULLET, _LABEL):
            if mark := pattern.match(line):
                line = line[mark.end() :].strip()
        if len(line) > 1 and line[0] + line[-1] in _QUOTES:
            line = line[1:-1].strip()
        if line == before:
            return line
