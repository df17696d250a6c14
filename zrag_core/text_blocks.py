"""Tables and code in a text, cut into the pieces that are sentences of their own."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r"^[ \t]*(?:[-*+][ \t]+|\d{1,3}[.)][ \t]+)?(`{3,}(?=[^`\n]*$)|~{3,})", re.MULTILINE)
_CLOSING = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*")
_DELIMITER = re.compile(r"^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_ROW = re.compile(r"[ \t]*\|[^|\n]*(?:\|[^|\n]*)+\|[ \t]*")
_CODE_LINES = 6  # lines of code that are one sentence


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text; `cells` are those of a table's row, as (header, cell)."""

    start: int
    end: int
    kind: str = "prose"
    cells: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A table or a piece of code."""

    start: int
    end: int
    pieces: list[Piece]


def find_blocks(text: str) -> Iterator[Block]:
    """The tables and the pieces of code of a text, in order."""
    lines = _lines(text)
    closing = [n for n, line in enumerate(lines) if _CLOSING.fullmatch(text, *line)]
    number = 0
    while number < len(lines):
        end = _code_end(text, lines, number, closing) or _table_end(text, lines, number)
        if not end:
            number += 1
            continue
        fenced = FENCE.match(text[slice(*lines[number])]) is not None
        pieces = _code(text, lines[number:end]) if fenced else _table(text, lines[number:end])
        yield Block(lines[number][0], lines[end - 1][1], pieces)
        number = end


def _lines(text: str) -> list[tuple[int, int]]:
    """Offsets of the lines, without their ends."""
    found, start = [], 0
    for part in text.split("\n"):
        found.append((start, start + len(part)))
        start += len(part) + 1
    return found


def _code_end(text: str, lines: list[tuple[int, int]], number: int, closing: list[int]) -> int:
    """Where the code that a fence opens has ended, as a number of a line; 0 where none opens or none closes it.

    Args:
        closing: numbers of the lines that may close code.
    """
    opened = FENCE.match(text[slice(*lines[number])])
    if opened is None:
        return 0
    mark = opened.group(1)
    for after in closing[bisect_right(closing, number) :]:
        if text[slice(*lines[after])].strip().startswith(mark):
            return after + 1
    return 0


def _code(text: str, lines: list[tuple[int, int]]) -> list[Piece]:
    """Code in pieces of a few lines, cut at blank lines; the fences belong to the first and the last one."""
    pieces: list[Piece] = []
    group: list[tuple[int, int]] = []
    for start, end in lines[1:-1]:
        blank = not text[start:end].strip()
        if group and (blank or len(group) == _CODE_LINES):
            pieces.append(Piece(group[0][0], group[-1][1], "code"))
            group = []
        if not blank:
            group.append((start, end))
    if group:
        pieces.append(Piece(group[0][0], group[-1][1], "code"))
    if not pieces:
        return [Piece(lines[0][0], lines[-1][1], "code")]
    pieces[0] = Piece(lines[0][0], pieces[0].end, "code")
    pieces[-1] = Piece(pieces[-1].start, lines[-1][1], "code")
    return pieces


def _table_end(text: str, lines: list[tuple[int, int]], number: int) -> int:
    """Where the table that begins in a line has ended; 0 where none begins.

    Rows between bars are a table without a header too: what is left of a long one that was cut into passages.
    """
    end = number
    if _has_header(text, lines, number):
        end = number + 2
        while end < len(lines) and "|" in text[slice(*lines[end])]:
            end += 1
    while end < len(lines) and _ROW.fullmatch(text, *lines[end]):
        end += 1
    return end if end > number else 0


def _has_header(text: str, lines: list[tuple[int, int]], number: int) -> bool:
    if number + 1 >= len(lines):
        return False
    header, delimiter = (text[slice(*lines[n])] for n in (number, number + 1))
    return "|" in header and "|" in delimiter and _DELIMITER.match(delimiter) is not None


def _table(text: str, lines: list[tuple[int, int]]) -> list[Piece]:
    """The rows of a table; header and delimiter belong to the first one."""
    if not _has_header(text, lines, 0):
        rows = (Piece(*line, "row", tuple(("", cell) for cell in _cells(text[slice(*line)]))) for line in lines)
        return list(rows)
    header = _cells(text[slice(*lines[0])])
    if len(lines) == 2:
        return [Piece(lines[0][0], lines[1][1], "row", tuple(("", cell) for cell in header))]
    pieces = []
    for number, (start, end) in enumerate(lines[2:]):
        row = _cells(text[start:end])
        names = header + [""] * (len(row) - len(header))
        pieces.append(Piece(start if number else lines[0][0], end, "row", tuple(zip(names, row, strict=False))))
    return pieces


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]
