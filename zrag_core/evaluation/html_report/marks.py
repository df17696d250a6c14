"""Texts cut into pieces, so that evidence and answers can be highlighted in them by their offsets."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

# What is shown at either end of an unmarked stretch when the middle of a long document is left out.
CONTEXT = 300
_WORTH_LEAVING_OUT = 200


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a text.

    Attributes:
        text: its characters; with `left_out`, empty.
        evidence: which piece of evidence it belongs to, counted from 1; 0 for none.
        starts: whether that piece of evidence begins here.
        answer: whether a golden answer stands there.
        left_out: how many characters are not shown here.
    """

    text: str
    evidence: int = 0
    starts: bool = False
    answer: bool = False
    left_out: int = 0


def mark(
    text: str, evidence: Mapping[int, tuple[int, int]] | None = None, answers: Sequence[tuple[int, int]] = ()
) -> tuple[Piece, ...]:
    """Cut a text where evidence or answers begin and end; the pieces together are the text.

    Args:
        text: a document, or evidence.
        evidence: number of a piece of evidence, from 1 -> its characters (start, end); where they overlap, the lowest
            number is shown.
        answers: characters (start, end) where an answer stands; they may overlap.

    Raises:
        ValueError: offsets that are not in the text.
    """
    evidence = dict(sorted((evidence or {}).items()))
    for start, end in (*evidence.values(), *answers):
        if not 0 <= start <= end <= len(text):
            raise ValueError(f"characters {start} to {end} are not in a text of {len(text)} characters")
    edges = sorted({0, len(text), *(edge for pair in (*evidence.values(), *answers) for edge in pair)})
    pieces = []
    for start, end in itertools.pairwise(edges):
        number = next((n for n, (first, last) in evidence.items() if first <= start and end <= last), 0)
        starts = number > 0 and evidence[number][0] == start
        answer = any(first <= start and end <= last for first, last in answers)
        pieces.append(Piece(text[start:end], number, starts, answer))
    return tuple(pieces)


def shorten(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Leave out the middle of long unmarked pieces, and say how much; marked ones stay whole."""
    short: list[Piece] = []
    for piece in pieces:
        left_out = len(piece.text) - 2 * CONTEXT
        if piece.evidence or piece.answer or left_out < _WORTH_LEAVING_OUT:
            short.append(piece)
        else:
            head, tail = piece.text[:CONTEXT], piece.text[-CONTEXT:]
            short += [replace(piece, text=head), Piece("", left_out=left_out), replace(piece, text=tail)]
    return tuple(short)
