"""JSON lines: an object a line."""

from __future__ import annotations

import json
from typing import Any

from zrag_core.corpus.cleaning import clean
from zrag_core.corpus.conversion.plain import decode
from zrag_core.corpus.conversion.text_page import CannotConvert, Page, Section

_TITLES = ("title", "name", "heading", "subject")
_TEXTS = ("text", "contents", "content", "body", "description")


def convert_json_lines(content: bytes, name: str) -> Page:
    """Each object as a section: its text under its title; one without a text as lines "field: value"."""
    text, notes = decode(content)
    made, sections = "", []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CannotConvert(f"line {number} is not JSON") from error
        if not isinstance(row, dict):
            raise CannotConvert(f"line {number} is not an object")
        start = len(made)
        title, body = _title_and_text(row)
        made += clean(body).strip()
        sections.append(Section((title,) if title else (), start, len(made)))
        made += "\n\n"
    return Page(made.rstrip(), tuple(sections), notes=notes)


def _title_and_text(row: dict[str, Any]) -> tuple[str, str]:
    title = next((row[key] for key in _TITLES if isinstance(row.get(key), str)), "")
    body = next((row[key] for key in _TEXTS if isinstance(row.get(key), str)), None)
    if body is None:
        plain = {key: value for key, value in row.items() if isinstance(value, str | int | float) and value != title}
        body = "\n".join(f"{key}: {value}" for key, value in plain.items())
    return " ".join(clean(title).split()), body
