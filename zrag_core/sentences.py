"""Sentences of a text and how each is read: rows of tables, items of lists and lines of code are sentences too.

What a row or an item says depends on what stands above it. A sentence therefore has two forms: `text`, verbatim, and
`reading`, without markup and with the table's header, the line that leads into a list, or the question that is
answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from zrag_core.text import TextSlice
from zrag_core.text_blocks import FENCE, Piece, find_blocks

# Abbreviations after which a full stop rarely ends an English sentence.
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st jr sr vs etc e.g i.e fig no vol approx dept gen col lt sgt capt rev hon u.s u.k inc ltd co "
    "jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
# Those that are words too, or end sentences: only a number tells.
_BEFORE_NUMBERS = frozenset("ext tel max art sec ch p pp para ca nr".split())
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
_VISIBLE = re.compile(r"\S")
_WORD = re.compile(r"\w", re.UNICODE)
_MARKUP = re.compile(
    r"!?\[([^\]\n]*)\]\([^()\n]*\)|(\*\*|__|`+)|^[ \t]*>[ \t]?|<br[ \t]*/?>", re.MULTILINE | re.IGNORECASE
)
_ENDS = ".!?:;\uff1a\u3002"
_FULL_LINE = 60  # characters; a line of so many may be one of wrapped text
_DEEPEST = 40  # characters that a line may be indented


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
    pieces: list[Piece] = []
    start = 0
    for block in find_blocks(text):
        pieces += _prose(text, start, block.start)
        pieces += block.pieces
        start = block.end
    pieces += _prose(text, start, len(text))
    return list(_read(text, _with_words(text, pieces)))


def _prose(text: str, start: int, end: int) -> Iterator[Piece]:
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
        yield Piece(start + position, start + match.end())
        position, item = match.end(), _FIRST_ITEM.match(part, match.end())
        numbers.add(_number(item))
    yield Piece(start + position, end)


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
    before_number = word in _BEFORE_NUMBERS and following.group().isdecimal()
    return initial or word in _ABBREVIATIONS or before_number


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


def _with_words(text: str, pieces: list[Piece]) -> list[Piece]:
    """The pieces without white space around them; one that holds no word is part of the next one, or of the last."""
    kept: list[Piece] = []
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
        kept.append(Piece(start if waiting is None else waiting, end, piece.kind, piece.cells))
        waiting = None
    if waiting is not None:
        end = len(text.rstrip())
        if kept:
            last = kept.pop()
            kept.append(Piece(last.start, end, last.kind, last.cells))
        else:
            kept.append(Piece(waiting, end))
    return kept


def _read(text: str, pieces: list[Piece]) -> Iterator[Sentence]:
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


def _body(own: str, piece: Piece) -> str:
    """What a piece says by itself."""
    if piece.kind == "row":
        named = ((_plain(name), _plain(cell)) for name, cell in piece.cells)
        return ", ".join(f"{name}: {cell}" if name else cell for name, cell in named if cell)
    if piece.kind == "code":
        return "\n".join(line.rstrip() for line in own.splitlines() if not FENCE.match(line)).strip()
    return _plain(own)


def _plain(text: str) -> str:
    """Text without Markdown's marks; links are their words."""
    if not _MARKUP.search(text):
        return " ".join(text.split()) if "\n" in text else text.strip()
    return " ".join(_MARKUP.sub(_unmarked, text).split())


def _unmarked(match: re.Match[str]) -> str:
    return match.group(1) or (" " if match.group().startswith("<") else "")
