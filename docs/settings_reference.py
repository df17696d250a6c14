"""Writes the reference of all settings into docs/configuration.md, below its marker.

    python docs/settings_reference.py

The page above the marker is written by hand. A test fails where the rest is not what this script makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from zrag_core.settings import Settings

PAGE = Path(__file__).with_name("configuration.md")
MARKER = "<!-- below: made by docs/settings_reference.py -->\n"
_TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "`true`, `false`", "null": "null"}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def page(text: str) -> str:
    """The whole page: what stands above the marker in `text`, and the reference of the settings as they are."""
    by_hand, marker, _ = text.partition(MARKER)
    if not marker:
        raise ValueError(f"no line {MARKER.strip()!r} in the page")
    return by_hand + marker + "\n" + reference(Settings())


def reference(settings: BaseModel) -> str:
    """Markdown with a heading and a table for every section of the settings, whose values are the defaults."""
    lines = (line for name, section in dict(settings).items() for line in _section(section, name, 3))
    return "\n".join(lines)


def _section(section: BaseModel, path: str, level: int) -> Iterator[str]:
    summary = " ".join((section.__doc__ or "").strip().split("\n\n")[0].split())
    yield from (f"{'#' * level} {path}", "", summary, "")
    schema = type(section).model_json_schema()["properties"]
    inner = {name: value for name, value in section if isinstance(value, BaseModel)}
    if len(inner) < len(schema):
        yield from ("| field | default | values | what it is |", "|---|---|---|---|")
        for name, value in section:
            if name not in inner:
                about = schema[name].get("description", "").replace("|", "\\|")
                yield f"| `{name}` | {_default(value)} | {_values(schema[name])} | {about} |"
        yield ""
    for name, value in inner.items():
        yield from _section(value, f"{path}.{name}", level + 1)


def _default(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`[{', '.join(map(str, value))}]`" if isinstance(value, list | tuple) else f"`{value}`"


def _values(schema: Mapping[str, Any]) -> str:
    """What a field may be, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(map(_values, schema["anyOf"]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_values(schema['items'])}"
    bounds = [f"{sign} {schema[name]:g}" for name, sign in _BOUNDS.items() if name in schema]
    return " ".join((_TYPES[schema["type"]], " and ".join(bounds))).strip()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
