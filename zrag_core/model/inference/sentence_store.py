"""The sentences of every document in memory, split when they are first read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, overload

from zrag_core.corpus.types import Document
from zrag_core.evidence import Segment
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.word_features import feature_ids
from zrag_core.sentences import split_sentences

T = TypeVar("T")


class _Lazy(Sequence[T], Generic[T]):
    """A list whose items are made when they are first asked for."""

    def __init__(self, length: int, make: Callable[[int], T]):
        self._length, self._make = length, make
        self._made: dict[int, T] = {}

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, row: int) -> T: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[T]: ...

    def __getitem__(self, row: int | slice) -> T | Sequence[T]:
        if isinstance(row, slice):
            return [self[number] for number in range(self._length)[row]]
        row = range(self._length)[row]  # negative rows, and an IndexError behind the end
        if row not in self._made:
            self._made[row] = self._make(row)
        return self._made[row]


@dataclass(frozen=True, slots=True)
class SentenceStore:
    """Sentences of every document in row order.

    Attributes:
        segments: offsets and text.
        ids: token ids.
        spans: number of the span that keeps each sentence.
        titles: word features of each document's title.
    """

    segments: Sequence[list[Segment]]
    ids: Sequence[list[list[int]]]
    spans: Sequence[list[int]]
    titles: Sequence[frozenset[int]]
    _features: dict[int, list[list[int]]] = field(default_factory=dict)

    def features(self, row: int) -> list[list[int]]:
        """Word features of each sentence of a document."""
        if row not in self._features:
            self._features[row] = [feature_ids(segment.shown) for segment in self.segments[row]]
        return self._features[row]

    @classmethod
    def build(cls, model: MemoryModel, documents: Sequence[Document]) -> SentenceStore:
        """The sentences of `documents`; scores of the segments are zero."""
        n = len(documents)

        def segments_of(row: int) -> list[Segment]:
            document = documents[row]
            return [
                Segment(document.id, s.start, s.end, s.text, 0.0, s.explained) for s in split_sentences(document.text)
            ]

        segments = _Lazy(n, segments_of)

        def spans_of(row: int) -> list[int]:
            length = len(segments[row])
            run = model.sentences_per_span(length)
            return [number // run for number in range(length)]

        ids = _Lazy(n, lambda row: [model.backbone.encode(segment.shown) for segment in segments[row]])
        titles = _Lazy(n, lambda row: frozenset(feature_ids(documents[row].title)))
        return cls(segments, ids, _Lazy(n, spans_of), titles)
