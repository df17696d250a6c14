"""Markdown, read by a CommonMark parser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml

from zrag_core.corpus.conversion.plain import decode
from zrag_core.corpus.conversion.text_page import Page, Section

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_ATTRIBUTES = re.compile(r"[ \t]*\{[ \t]*[#.:][^{}]*\}[ \t]*$")
_INVISIBLE = {"softbreak": " ", "hardbreak": " "}


def convert_markdown(content: bytes, name: str) -> Page:
    """Markdown divided at its headings; front matter and comments are set aside."""
    text, notes = decode(content)
    page = page_of_markdown(text)
    return Page(page.text, page.sections, page.title, notes)


def page_of_markdown(text: str) -> Page:
    """The page of cleaned Markdown text."""
    text, title = _without_front_matter(text)
    text = _without_comments(text)
    return Page(text, tuple(_sections(text)), title)


def _without_front_matter(text: str) -> tuple[str, str]:
    """The text behind YAML front matter, and the title that it gives."""
    found = _FRONT_MATTER.match(text)
    if found is None:
        return text, ""
    try:
        values = yaml.safe_load(found.group(1) or "")
    except yaml.YAMLError:
        return text, ""  # three dashes around what is no front matter
    if values is not None and not isinstance(values, dict):
        return text, ""
    title = (values or {}).get("title", "")
    return text[found.end() :], title.strip() if isinstance(title, str) else ""


def _without_comments(text: str) -> str:
    """The text without its HTML comments; those inside code are code."""
    if "<!--" not in text:
        return text
    code = [
        token.map for token in _parser().parse(text) if token.type in ("fence", "code_block") and token.map is not None
    ]
    starts = _line_starts(text)
    ranges = [(starts[first], starts[min(last, len(starts) - 1)]) for first, last in code]
    return _COMMENT.sub(lambda match: match.group() if any(a <= match.start() < b for a, b in ranges) else "", text)


def _sections(text: str) -> Iterator[Section]:
    """Divide Markdown at its headings; heading lines belong to no section."""
    path: tuple[str, ...] = ()
    start = 0
    starts = _line_starts(text)
    tokens = _parser().parse(text)
    for number, token in enumerate(tokens):
        if token.type != "heading_open" or token.level or token.map is None:
            continue
        first, last = token.map
        yield Section(path, start, starts[first])
        level = int(token.tag[1:])
        path = (*(path + ("",) * level)[: level - 1], _heading(tokens[number + 1]))
        start = starts[min(last, len(starts) - 1)]
    yield Section(path, start, len(text))


def _heading(token: Any) -> str:
    words = "".join(_INVISIBLE.get(child.type, child.content) for child in token.children or ())
    return _ATTRIBUTES.sub("", words).strip()


def _line_starts(text: str) -> list[int]:
    """Offsets of the lines, and of the text's end."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    starts[-1] = len(text)
    return starts


@lru_cache(maxsize=1)
def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")
