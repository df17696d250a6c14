"""PDF, by pypdf: the text of each page is a section of its own, so that evidence names its page."""

from __future__ import annotations

import io
import re

from zrag_core.corpus.cleaning import clean
from zrag_core.corpus.conversion.text_page import CannotConvert, Page, Section

_HYPHENATED = re.compile(r"(?<=[a-z])-\n(?=[a-z])")


def convert_pdf(content: bytes, name: str) -> Page:
    """The text page by page; words hyphenated at a line's end are joined."""
    import logging

    import pypdf
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # what it mends in silence need not be told
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise CannotConvert("the PDF is locked by a password")
        pages = [clean(_HYPHENATED.sub("", page.extract_text())).strip() for page in reader.pages]
        title = clean((reader.metadata.title if reader.metadata else "") or "").strip()
    except (PyPdfError, ValueError, KeyError, OSError) as error:
        raise CannotConvert(f"not a PDF that can be opened ({' '.join(str(error).split())[:80]})") from error
    if not any(pages):
        raise CannotConvert("no text in the PDF (scanned pages need OCR first)")
    text, sections = "", []
    for number, page in enumerate(pages, 1):
        start = len(text)
        text += f"{page}\n\n"
        path = ("", f"p. {number}") if len(pages) > 1 else ()
        sections.append(Section(path, start, start + len(page)))
    empty = pages.count("")
    notes = (f"{empty} of {len(pages)} pages have no text",) if empty else ()
    return Page(text.rstrip(), tuple(sections), title, notes)
