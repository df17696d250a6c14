"""Texts and names of any source as the corpus keeps them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

from zrag_core.text import fold_width, normalize

# Control characters that separate lines or pages; `normalize` would glue the words around them.
_BREAKS = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85]")

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that Git left in the place of a large one."""

NOT_FETCHED = "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"

ENCODING_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as the mark of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""How a file begins that says its encoding."""


def marked_encoding(content: bytes) -> str:
    """The encoding that a file's first bytes name; UTF-8 where they name none."""
    return next((name for mark, name in ENCODING_MARKS if content.startswith(mark)), "utf-8")


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say where a file stops being UTF-8."""
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {error.start})"


def clean(text: str) -> str:
    """Unicode NFC without control and invisible characters, with line feeds for every kind of line or page break."""
    return normalize(_BREAKS.sub("\n", text))


def clean_question(text: str) -> str:
    """A question as it is asked: cleaned like a document's text, in letters of usual width, on one line."""
    return " ".join(clean(fold_width(text)).split())


def unique(values: Iterable[str]) -> tuple[str, ...]:
    """Drop repeats, keeping the first of each."""
    return tuple(dict.fromkeys(values))
