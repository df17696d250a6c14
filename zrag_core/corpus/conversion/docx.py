"""Word documents, by mammoth: headings, lists and tables as HTML, and from there as any page."""

from __future__ import annotations

import io

from zrag_core.corpus.conversion.html import page_of_html
from zrag_core.corpus.conversion.text_page import CannotConvert, Page


def convert_docx(content: bytes, name: str) -> Page:
    """The document's text with its headings."""
    import zipfile

    import mammoth

    try:
        made = mammoth.convert_to_html(io.BytesIO(content))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise CannotConvert("not a Word document that can be opened (.docx)") from error
    page = page_of_html(f"<body>{made.value}</body>")
    return Page(page.text, page.sections)
