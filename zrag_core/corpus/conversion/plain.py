"""Plain text."""

from __future__ import annotations

from zrag_core.corpus.cleaning import clean, marked_encoding, not_utf8
from zrag_core.corpus.conversion.text_page import CannotConvert, Page, Section
from zrag_core.text import has_hangul


def convert_plain(content: bytes, name: str) -> Page:
    """Text without structure."""
    text, notes = decode(content)
    return Page(text, (Section((), 0, len(text)),), notes=notes)


def decode(content: bytes) -> tuple[str, tuple[str, ...]]:
    """Cleaned text of a file in UTF-8, UTF-16 or UTF-32 (with their marks) or older Korean encoding, and notes.

    Raises:
        CannotConvert: the bytes are no text.
    """
    notes: tuple[str, ...] = ()
    encoding = marked_encoding(content)
    if encoding == "utf-8" and b"\x00" in content:
        raise CannotConvert(_null_bytes(content))
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        try:
            text = content.decode("cp949")
        except UnicodeDecodeError:
            text = ""
        if not has_hangul(text):
            remedy = "save it as UTF-8 (iconv -f CP949 -t UTF-8 for older Korean)"
            raise CannotConvert(f"{not_utf8(error)}; {remedy}") from error
        notes = ("read as CP949",)
    if "\x00" in text:
        raise CannotConvert("not a text file (it holds null bytes)")
    return clean(text), notes


def _null_bytes(content: bytes) -> str:
    """What a file with null bytes is: every second byte of Western text in UTF-16 is one."""
    halves = sorted((content[0::2].count(0), content[1::2].count(0)))
    if len(content) % 2 == 0 and halves[1] > len(content) // 4 and not halves[0]:
        return "UTF-16 without its mark; save it as UTF-8 (iconv -f UTF-16LE -t UTF-8)"
    return "not a text file (it holds null bytes)"
