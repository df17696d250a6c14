"""Writes the reference of all settings into docs/configuration.md, below its marker.

    python docs/settings_reference.py

The page above the marker is written by hand. A test fails where the rest is not what this script makes.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from zrag_core.settings import Settings

PAGE = Path(__file__).with_name("configuration.md")
MARKER = "<!-- below: made by docs/settings_reference.py -->\n"
_SIGNS = ((Ge, "ge", ">="), (Gt, "gt", ">"), (Le, "le", "<="), (Lt, "lt", "<"))


def reference(settings: BaseModel) -> str:
    """Markdown with a heading and a table for every section of the settings, whose values are the defaults."""
    lines = (line for name in type(settings).model_fields for line in _section(getattr(settings, name), name, 3))
    return "\n".join(lines)


def page(text: str) -> str:
    """The whole page: what stands above the marker in `text`, and the reference of the settings as they are."""
    by_hand, marker, _ = text.partition(MARKER)
    if not marker:
        raise ValueError(f"no line {MARKER.strip()!r} in the page")
    return by_hand + marker + "\n" + reference(Settings())


def _section(section: BaseModel, path: str, level: int) -> Iterator[str]:
    summary = " ".join((section.__doc__ or "").strip().split("\n\n")[0].split())
    yield from (f"{'#' * level} {path}", "", summary, "")
    fields, values = type(section).model_fields, dict(section)
    inner = {name: value for name, value in values.items() if isinstance(value, BaseModel)}
    if len(inner) < len(fields):
        yield from ("| field | default | values | what it is |", "|---|---|---|---|")
        for name, field in fields.items():
            if name not in inner:
                cells = (
                    f"`{name}`",
                    _value(values[name]),
                    _values(field),
                    (field.description or "").replace("|", "\\|"),
                )
                yield f"| {' | '.join(cells)} |"
        yield ""
    for name, value in inner.items():
        yield from _section(value, f"{path}.{name}", level + 1)


def _value(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def _values(field: FieldInfo) -> str:
    return _bounded(_kind(field.annotation), field.metadata)


def _kind(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _bounded(_kind(inner[0]), inner[1:])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is types.NoneType else _kind(part) for part in inner)
    if origin in (tuple, list):
        return f"list of {_kind(inner[0])}"
    names = {str: "text", int: "integer", float: "number", bool: "`true`, `false`"}
    return names.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _bounded(kind: str, metadata: Iterable[object]) -> str:
    bounds = list(_bounds(metadata))
    return f"{kind} {' and '.join(bounds)}" if bounds else kind


def _bounds(metadata: Iterable[object]) -> Iterator[str]:
    for item in metadata:
        if isinstance(item, FieldInfo):  # a Field(...) inside Annotated
            yield from _bounds(item.metadata)
        elif isinstance(item, MinLen):
            yield "(not empty)"
        for kind, name, sign in _SIGNS:
            if isinstance(item, kind):
                yield f"{sign} {getattr(item, name):g}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
