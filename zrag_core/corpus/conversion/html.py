"""Web pages, and whatever else can be had as HTML: turned into Markdown by markdownify (Beautiful Soup)."""

from __future__ import annotations

import re

from zrag_core.corpus.cleaning import clean
from zrag_core.corpus.conversion.markdown import page_of_markdown
from zrag_core.corpus.conversion.text_page import CannotConvert, Page

_NO_TEXT = ("script", "style", "noscript", "template", "nav", "svg", "head", "form")
_BLANK_LINES = re.compile(r"\n{3,}")


def convert_html(content: bytes, name: str) -> Page:
    """A page's text with its headings, lists and tables; navigation, scripts and forms are left out."""
    return page_of_html(content)


def page_of_html(content: bytes | str) -> Page:
    """The page of HTML; bytes are decoded as the document itself says."""
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(content, "html.parser")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    for element in soup(_NO_TEXT):
        element.decompose()
    body = soup.find("main") or soup.body or soup
    made: str = MarkdownConverter(heading_style="ATX", bullets="-", strip=["img"], escape_misc=False).convert_soup(body)
    text = _BLANK_LINES.sub("\n\n", clean(made)).strip()
    if not text:
        raise CannotConvert("no text in the page")
    page = page_of_markdown(text)
    return Page(page.text, page.sections, clean(title))
