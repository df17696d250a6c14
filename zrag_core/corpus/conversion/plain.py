"""Plain text."""

from __future__ import annotations

import codecs

from zrag_core.corpus.cleaning import clean, not_utf8
from zrag_core.corpus.conversion.text_page import CannotConvert, Page, Section
from zrag_core.text import has_hangul

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_POINTER = "version https://git-lfs.github.com/spec/"


def convert_plain(content: bytes, name: str) -> Page:
    """Text without structure."""
    text, notes = decode(content)
    return Page(text, (Section((), 0, len(text)),), notes=notes)


def decode(content: bytes) -> tuple[str, tuple[str, ...]]:
    """Cleaned text of a file in UTF-8, UTF-16 with its mark, or the encoding of older Korean files, and notes.

    Raises:
        CannotConvert: the bytes are no text, or stand for a file that lies elsewhere.
    """
    notes: tuple[str, ...] = ()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        try:
            text = content.decode("cp949")
        except UnicodeDecodeError:
            text = ""
        if "\x00" in text or not has_hangul(text):
            remedy = "save it as UTF-8 (iconv -f CP949 -t UTF-8 for older Korean)"
            raise CannotConvert(f"{not_utf8(error)}; {remedy}") from error
        notes = ("read as CP949",)
    if "\x00" in text:
        raise CannotConvert("not a text file (it holds null bytes)")
    if text.startswith(_POINTER):
        raise CannotConvert("a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    return clean(text), notes
