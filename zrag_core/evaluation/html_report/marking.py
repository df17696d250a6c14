"""Texts cut into pieces, so that evidence and answers can be highlighted in them by their offsets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

# What is shown at either end of an unmarked stretch when the middle of a long document is left out.
CONTEXT = 300
_WORTH_LEAVING_OUT = 200


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a text.

    Attributes:
        text: its characters; with `left_out`, empty.
        evidence: whether it is evidence.
        answer: whether a golden answer stands there.
        left_out: how many characters are not shown here.
    """

    text: str
    evidence: bool = False
    answer: bool = False
    left_out: int = 0


def mark(
    text: str, evidence: Iterable[tuple[int, int]] = (), answers: Iterable[tuple[int, int]] = ()
) -> tuple[Piece, ...]:
    """Cut a text where evidence or answers begin and end; the pieces together are the text.

    Args:
        text: a document, or evidence.
        evidence: characters (start, end) that are evidence; they may overlap.
        answers: characters (start, end) where an answer stands; they may overlap.

    Raises:
        ValueError: offsets that are not in the text.
    """
    ranges = {"evidence": list(evidence), "answer": list(answers)}
    for start, end in (pair for pairs in ranges.values() for pair in pairs):
        if not 0 <= start <= end <= len(text):
            raise ValueError(f"characters {start} to {end} are not in a text of {len(text)} characters")
    edges = sorted({0, len(text), *(edge for pairs in ranges.values() for pair in pairs for edge in pair)})
    return tuple(
        Piece(text[start:end], **{name: _covers(pairs, start, end) for name, pairs in ranges.items()})
        for start, end in zip(edges, edges[1:], strict=False)
    )


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


def _covers(pairs: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    return any(first <= start and end <= last for first, last in pairs)
