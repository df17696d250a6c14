"""Sentences of a text and how each is read: rows of tables, items of lists and lines of code are sentences too.

What a row or an item says depends on what stands above it. A sentence therefore has two forms: `text`, verbatim, and
`reading`, without markup and with the table's header, the line that leads into a list, or the question that is
answered.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from zrag_core.text import TextSlice

# Abbreviations after which a full stop rarely ends an English sentence.
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st jr sr vs etc e.g i.e fig no vol approx dept gen col lt sgt capt rev hon u.s u.k inc ltd co "
    "jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
_CLOSERS = "[\"'\u2019\u201d)\\]\u300d\u300f]*"
_BULLETS = (
    "*+\u2022\u00b7\u25aa\u25cb\u25cf\u203b\u25a0\u25a1\u25e6\u25b6\u25ba\u261e\u25ce\u25c6\u25c7\u2605\u2606\u2713"
)
_MARKER = (
    rf"[ \t]*(?:[-{_BULLETS}](?=[ \t])|-(?=[^\W\d_])|\d{{1,3}}[.)](?=[ \t])"
    r"|\(\d{1,3}\)|[\u2460-\u2473]|[가나다라마바사아자차카타파하][.)](?=[ \t]))"
)
_KEY = r"[ \t]*[^\W\d_][\w /()\-\u00b7]{0,30}[:\uff1a](?=[ \t]+\S)"
_TITLE = re.compile(r"[ \t]*[\[<\u3010\u3008\u300a][^\n\[\]<>]{1,40}[\]>\u3011\u3009\u300b][ \t]*$", re.MULTILINE)
_END = re.compile(
    rf"[.!?\u2026]+{_CLOSERS}(?=\s|\Z)"
    # Ideographic marks, danda and the Arabic question mark need no white space behind them.
    rf"|[\u3002\uff01\uff1f\u0964\u0965\u061f\u06d4]+{_CLOSERS}"
    r"|(?<=[가-힣])\.(?=[가-힣]|\d{2})"
    rf"|\n[ \t]*\n|\n(?={_MARKER})|\n(?={_KEY})|\n(?=[ \t]*#)|\n(?={_TITLE.pattern})|(?<=[\]>\u3011\u3009\u300b])\n",
    re.MULTILINE,
)
_ITEM = re.compile(_MARKER)
_FIRST_ITEM = re.compile(r"\s*" + _MARKER)
_KEY_LINE = re.compile(_KEY)
_QUESTION = re.compile(r"(?:\*\*)?(?:Q|질문|문)[ \t]*\d{0,3}[.:)\uff1a][ \t]*", re.IGNORECASE)
_ANSWER = re.compile(r"(?:\*\*)?(?:A|답변?)[ \t]*\d{0,3}[.:)\uff1a][ \t]*", re.IGNORECASE)
_DATE = re.compile(r"(?:\d{4}|\d{2})\.[ \t]?\d{1,2}\.(?:[ \t]?\d{1,2}\.)?|(?<![\d.])\d{1,2}\.[ \t]?\d{1,2}\.(?!\d)")
_FENCE = re.compile(r"^[ \t]*(?:[-*+][ \t]+|\d{1,3}[.)][ \t]+)?(`{3,}(?=[^`\n]*$)|~{3,})", re.MULTILINE)
_CLOSING = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*")
_DELIMITER = re.compile(r"^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_VISIBLE = re.compile(r"\S")
_WORD = re.compile(r"\w", re.UNICODE)
_MARKUP = re.compile(r"!?\[([^\]\n]*)\]\([^()\n]*\)|(\*\*|__|`+)|^[ \t]*>[ \t]?", re.MULTILINE)
_ENDS = ".!?:;\uff1a\u3002"
_FULL_LINE = 60  # characters; a line of so many may be one of wrapped text
_DEEPEST = 40  # characters that a line may be indented
_CODE_LINES = 6  # lines of code that are one sentence


@dataclass(frozen=True, slots=True)
class Sentence(TextSlice):
    """A sentence of a text.

    Attributes:
        reading: what it says to someone who reads it alone; the text itself where that is the same.
    """

    reading: str

    @property
    def explained(self) -> str:
        """The reading where it says more or less than the text, and not only in other white space; else ""."""
        return "" if self.reading == " ".join(self.text.split()) else self.reading


def split_sentences(text: str) -> list[Sentence]:
    """Split `text` into sentences with their character offsets.

    Ends are `. ! ?` followed by white space, ideographic marks, blank lines, and line ends before a list item, a row
    of a table or a line that begins with a name and a colon. Abbreviations, initials ("J. Smith"), decimals and
    Korean dates do not end a sentence. A table's header belongs to its first row. Every non-space character belongs
    to exactly one sentence.
    """
    pieces: list[_Piece] = []
    start = 0
    for block in _blocks(text):
        pieces += _prose(text, start, block.start)
        pieces += block.pieces
        start = block.end
    pieces += _prose(text, start, len(text))
    return list(_read(text, _with_words(text, pieces)))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a text; `cells` are those of a table's row, as (header, cell)."""

    start: int
    end: int
    kind: str = "prose"
    cells: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Block:
    """A table or a piece of code."""

    start: int
    end: int
    pieces: list[_Piece]


def _blocks(text: str) -> Iterator[_Block]:
    lines = _lines(text)
    closing = [n for n, line in enumerate(lines) if _CLOSING.fullmatch(text, *line)]
    number = 0
    while number < len(lines):
        end = _code_end(text, lines, number, closing) or _table_end(text, lines, number)
        if not end:
            number += 1
            continue
        fenced = _FENCE.match(text[slice(*lines[number])]) is not None
        pieces = _code(text, lines[number:end]) if fenced else _table(text, lines[number:end])
        yield _Block(lines[number][0], lines[end - 1][1], pieces)
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
    opened = _FENCE.match(text[slice(*lines[number])])
    if opened is None:
        return 0
    mark = opened.group(1)
    for after in closing[bisect_right(closing, number) :]:
        if text[slice(*lines[after])].strip().startswith(mark):
            return after + 1
    return 0


def _code(text: str, lines: list[tuple[int, int]]) -> list[_Piece]:
    """Code in pieces of a few lines, cut at blank lines; the fences belong to the first and the last one."""
    pieces: list[_Piece] = []
    group: list[tuple[int, int]] = []
    for start, end in lines[1:-1]:
        blank = not text[start:end].strip()
        if group and (blank or len(group) == _CODE_LINES):
            pieces.append(_Piece(group[0][0], group[-1][1], "code"))
            group = []
        if not blank:
            group.append((start, end))
    if group:
        pieces.append(_Piece(group[0][0], group[-1][1], "code"))
    if not pieces:
        return [_Piece(lines[0][0], lines[-1][1], "code")]
    pieces[0] = _Piece(lines[0][0], pieces[0].end, "code")
    pieces[-1] = _Piece(pieces[-1].start, lines[-1][1], "code")
    return pieces


def _table_end(text: str, lines: list[tuple[int, int]], number: int) -> int:
    """Where the table that begins in a line has ended; 0 where none begins."""
    if number + 1 >= len(lines):
        return 0
    header, delimiter = (text[slice(*lines[n])] for n in (number, number + 1))
    if "|" not in header or "|" not in delimiter or not _DELIMITER.match(delimiter):
        return 0
    end = number + 2
    while end < len(lines) and "|" in text[slice(*lines[end])]:
        end += 1
    return end


def _table(text: str, lines: list[tuple[int, int]]) -> list[_Piece]:
    """The rows of a table; header and delimiter belong to the first one."""
    header = _cells(text[slice(*lines[0])])
    if len(lines) == 2:
        return [_Piece(lines[0][0], lines[1][1], "row", tuple(("", cell) for cell in header))]
    pieces = []
    for number, (start, end) in enumerate(lines[2:]):
        row = _cells(text[start:end])
        names = header + [""] * (len(row) - len(header))
        pieces.append(_Piece(start if number else lines[0][0], end, "row", tuple(zip(names, row, strict=False))))
    return pieces


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def _prose(text: str, start: int, end: int) -> Iterator[_Piece]:
    part = text[start:end]
    dates = [match.span() for match in _DATE.finditer(part)]
    within = {mark for first, last in dates for mark in range(first, last - 1)}
    last_marks = {last - 1 for _, last in dates}
    position, item = 0, _FIRST_ITEM.match(part)
    numbers = {_number(item)}  # of the list items so far
    for match in _END.finditer(part):
        mark = match.start()
        if match.group()[0] in ".!?" and (
            mark in within
            or (item is not None and item.end() == mark + 1)  # the number of a list item
            or _continues(part, mark, match.end(), date=mark in last_marks)
        ):
            continue
        if match.group() == "\n" and not _ends_line(part, mark, numbers):
            continue
        yield _Piece(start + position, start + match.end())
        position, item = match.end(), _FIRST_ITEM.match(part, match.end())
        numbers.add(_number(item))
    yield _Piece(start + position, end)


def _number(item: re.Match[str] | None) -> int:
    """The number of a list item; 0 where it has none."""
    digits = "" if item is None else "".join(filter(str.isdecimal, item.group()))
    return int(digits) if digits else 0


def _continues(text: str, mark: int, end: int, *, date: bool) -> bool:
    """Whether the sentence goes on after the end mark at `mark`; `date` says whether that ends a date in numbers."""
    following = _VISIBLE.search(text, end)  # no copy of the rest of the text: linear in a whole book
    if following is None or following.group().islower():
        return following is not None
    if text[mark] != ".":
        return False
    if date:
        return not following.group().isupper()
    token = re.search(r"(\S*)$", text[max(0, mark - 12) : mark])
    word = token.group(1).lstrip("(\"'").casefold() if token else ""
    initial = len(word) == 1 and word.isascii() and word.isalpha() and text[mark - 1].isupper()
    return initial or word in _ABBREVIATIONS


def _ends_line(text: str, newline: int, numbers: set[int]) -> bool:
    """Whether a single line end that may end a sentence does: a line of wrapped text goes on in the next one.

    Args:
        numbers: of the list items before; an index ("H\\n2O") that looks like one continues none of them.
    """
    item = _ITEM.match(text, newline + 1)
    if item and (_number(item) - 1 in numbers or not _number(item) or text[newline - 1] in _ENDS):
        return True
    if _TITLE.match(text, newline + 1) or text.startswith("#", newline + 1):
        return True
    start = max(0, newline - 2 * _FULL_LINE)  # of what is longer, this much says enough
    line = text[max(start, text.rfind("\n", start, newline) + 1) : newline].rstrip()
    if _TITLE.match(line) or not _KEY_LINE.match(text, newline + 1):
        return _TITLE.match(line) is not None
    return len(line) < _FULL_LINE or line[-1] in _ENDS


def _with_words(text: str, pieces: list[_Piece]) -> list[_Piece]:
    """The pieces without white space around them; one that holds no word is part of the next one, or of the last."""
    kept: list[_Piece] = []
    waiting: int | None = None
    for piece in pieces:
        body = text[piece.start : piece.end]
        stripped = body.strip()
        if not stripped:
            continue
        start = piece.start + len(body) - len(body.lstrip())
        end = start + len(stripped)
        if not _WORD.search(stripped) and "\n" in text[max(0, start - 1) : end + 1]:
            waiting = start if waiting is None else waiting
            continue
        kept.append(_Piece(start if waiting is None else waiting, end, piece.kind, piece.cells))
        waiting = None
    if waiting is not None:
        end = len(text.rstrip())
        if kept:
            last = kept.pop()
            kept.append(_Piece(last.start, end, last.kind, last.cells))
        else:
            kept.append(_Piece(waiting, end))
    return kept


def _read(text: str, pieces: list[_Piece]) -> Iterator[Sentence]:
    """The pieces with what they say where they stand."""
    leads: list[tuple[int, str]] = []  # lines that lead into lists: how far they are indented, and what they say
    title, question, in_list = "", "", False
    for piece in pieces:
        own = text[piece.start : piece.end]
        before = text[max(0, piece.start - _DEEPEST) : piece.start]
        lead_in = before[before.rfind("\n") + 1 :]
        first = not lead_in.strip() and ("\n" in before or len(before) == piece.start)  # of its line
        indent = len(lead_in)
        item = _ITEM.match(own) if first and piece.kind == "prose" else None
        if item is not None:
            leads = [lead for lead in leads if lead[0] < indent]
            in_list = True
        elif piece.kind == "prose" and (not in_list or (first and not indent)):
            leads, in_list = [], False
        if piece.kind == "prose" and _TITLE.fullmatch(own):
            title = _plain(own).strip("[]<>\u3010\u3011\u3008\u3009\u300a\u300b ")
            yield Sentence(piece.start, piece.end, own, title)
            continue
        body = _body(own[item.end() :] if item else own, piece)
        if piece.kind == "prose" and (asks := _QUESTION.match(own)):
            question = body = _plain(own[asks.end() :])
        elif piece.kind == "prose" and (answers := _ANSWER.match(own)) and question:
            body = f"{question} {_plain(own[answers.end() :])}"
        context = leads[-1][1] if leads and (in_list or piece.kind != "prose") else ""
        reading = " ".join(part for part in (f"{title}:" if title else "", context, body) if part)
        yield Sentence(piece.start, piece.end, own, reading or own)
        if piece.kind == "prose" and own.rstrip("* ").endswith((":", "\uff1a")):
            leads.append((indent if item else -1, body))


def _body(own: str, piece: _Piece) -> str:
    """What a piece says by itself."""
    if piece.kind == "row":
        named = ((_plain(name), _plain(cell)) for name, cell in piece.cells)
        return ", ".join(f"{name}: {cell}" if name else cell for name, cell in named if cell)
    if piece.kind == "code":
        return "\n".join(line.rstrip() for line in own.splitlines() if not _FENCE.match(line)).strip()
    return _plain(own)


def _plain(text: str) -> str:
    """Text without Markdown's marks; links are their words."""
    if not _MARKUP.search(text):
        return " ".join(text.split()) if "\n" in text else text.strip()
    return " ".join(_MARKUP.sub(lambda match: match.group(1) or "", text).split())
