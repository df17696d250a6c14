"""Text on a terminal, where Hangul, Han and Kana take two columns and combining marks none."""

from __future__ import annotations

import shutil
import unicodedata

_WIDEST = 110


def columns() -> int:
    """How wide text should be: the terminal's width, within what is good to read."""
    return max(40, min(_WIDEST, shutil.get_terminal_size((100, 24)).columns))


def width(text: str) -> int:
    """Columns that `text` takes on one line."""
    return sum(map(_columns, text))


def pad(text: str, size: int) -> str:
    """Fill `text` up with blanks to `size` columns."""
    return text + " " * (size - width(text))


def clip(text: str, size: int) -> str:
    """Cut `text` to one line of at most `size` columns; "…" says that it was cut."""
    text = " ".join(printable(text).split())
    if width(text) <= size:
        return text
    kept, used = "", 1
    for character in text:
        used += _columns(character)
        if used > size:
            break
        kept += character
    return kept.rstrip() + "…"


def wrap(text: str, size: int, indent: str = "") -> list[str]:
    """Lines of at most `size` columns, each behind `indent`; words that are longer than a line are broken."""
    room = size - width(indent)
    lines: list[str] = []
    for paragraph in printable(text).splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else word
            if width(longer) <= room:
                line = longer
                continue
            if line:
                lines.append(line)
            line = word
            while width(line) > room:
                head = _head(line, room)
                lines.append(head)
                line = line[len(head) :]
        lines.append(line)
    return [indent + line for line in lines if line]


def printable(text: str) -> str:
    """`text` without the control characters by which a document could take over the terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf"))


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cc", "Cf", "Me", "Mn"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _head(word: str, size: int) -> str:
    """The longest start of `word` that fits, at least one character."""
    used = 0
    for position, character in enumerate(word):
        used += _columns(character)
        if used > size and position:
            return word[:position]
    return word
