"""What a file is turned into, and why one cannot be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """The text below one heading: `start` to `end` of a page's text, under the headings in `path`, "" where a level
    is skipped."""

    path: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Page:
    """A file as text.

    Attributes:
        text: cleaned; offsets count in it.
        sections: in order.
        title: what the file calls itself; "" where it does not.
        notes: what a user should know of how it was read.
    """

    text: str
    sections: tuple[Section, ...]
    title: str = ""
    notes: tuple[str, ...] = ()


class CannotConvert(Exception):
    """A file that cannot be turned into text; the message says why, in a few words."""
