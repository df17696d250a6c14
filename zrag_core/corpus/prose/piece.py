"""A piece of prose."""

from __future__ import annotations

from typing import NamedTuple


class Prose(NamedTuple):
    """A titled text; paragraphs are apart by empty lines."""

    title: str
    text: str
