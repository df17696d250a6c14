"""The registry of file kinds: one line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zrag_core.corpus.cleaning import LFS_POINTER, NOT_FETCHED
from zrag_core.corpus.conversion.docx import convert_docx
from zrag_core.corpus.conversion.html import convert_html
from zrag_core.corpus.conversion.json_lines import convert_json_lines
from zrag_core.corpus.conversion.mail import convert_mail
from zrag_core.corpus.conversion.markdown import convert_markdown
from zrag_core.corpus.conversion.pdf import convert_pdf
from zrag_core.corpus.conversion.plain import convert_plain
from zrag_core.corpus.conversion.table import convert_csv
from zrag_core.corpus.conversion.text_page import CannotConvert, Page

CONVERTERS: dict[str, Callable[[bytes, str], Page]] = {
    ".md": convert_markdown,
    ".markdown": convert_markdown,
    ".txt": convert_plain,
    ".html": convert_html,
    ".htm": convert_html,
    ".pdf": convert_pdf,
    ".docx": convert_docx,
    ".eml": convert_mail,
    ".csv": convert_csv,
    ".tsv": convert_csv,
    ".jsonl": convert_json_lines,
}
"""What turns the bytes of a file with this suffix, and its name, into a page."""


def convert(content: bytes, name: str) -> Page:
    """Turn a file of a known kind into a page.

    Raises:
        CannotConvert: it is none that can be read, or stands for a file that lies elsewhere.
    """
    if content.startswith(LFS_POINTER):
        raise CannotConvert(NOT_FETCHED)
    return CONVERTERS[Path(name).suffix.lower()](content, name)
