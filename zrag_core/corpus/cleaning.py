"""Texts and names of any source as the corpus keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from zrag_core.text import normalize

# Control characters that separate lines or pages; `normalize` would glue the words around them.
_BREAKS = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85]")


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say where a file stops being UTF-8."""
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {error.start})"


def clean(text: str) -> str:
    """Unicode NFC without control characters, with line feeds for every kind of line or page break."""
    return normalize(_BREAKS.sub("\n", text))


def unique(values: Iterable[str]) -> tuple[str, ...]:
    """Drop repeats, keeping the first of each."""
    return tuple(dict.fromkeys(values))
