"""What documents are routed by: the words of title and text, and a key for each sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch

from zrag_core.model.architecture.document_words import title_ids
from zrag_core.model.architecture.row_table import NUMBERS, SCALE, RowTable
from zrag_core.model.architecture.token_codec import slot_numbers, slot_scales
from zrag_core.model.architecture.word_features import feature_ids
from zrag_core.model.architecture.word_lists import WordIndex

_FEW = 4  # questions; for more, a matrix product of floats is faster than one of bytes after the other
_CHUNK = 1 << 21  # numbers of keys that are floats at once
_EXACT = 100


class SentenceKeys(Protocol):
    """The keys of all sentences of N documents."""

    def best(self, queries: torch.Tensor) -> torch.Tensor:
        """The largest inner product of each query [B, k] with a key of each document, [B, N]."""
        ...


@dataclass(frozen=True, slots=True)
class DocumentKeys:
    """What N documents are routed by.

    Attributes:
        titles, texts: their words.
        idf: [BUCKETS] how rare a word is among these documents.
        sentences: keys of what their sentences say.
    """

    titles: WordIndex
    texts: WordIndex
    idf: torch.Tensor
    sentences: SentenceKeys

    def terms(self, texts: Sequence[str], queries: torch.Tensor) -> torch.Tensor:
        """How well titles, texts and sentences go with queries, given as text and as vectors [B, k]: [3, B, N]."""
        return torch.stack([*self._words(texts), self.sentences.best(queries)])

    def scores(self, texts: Sequence[str], queries: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """The terms' sum, weighted by scales [3]: [B, N].

        Of a few questions the keys are compared as bytes first, and those of documents that may be among the best
        `_EXACT` once more as they are, so that the best ones and their order are those of the exact sum.
        """
        title, text = self._words(texts)
        words = scales[0] * title + scales[1] * text
        if len(texts) >= _FEW or not isinstance(self.sentences, StoredKeys) or queries.device.type != "cpu":
            return words + scales[2] * self.sentences.best(queries)
        pairs = zip(words, queries, strict=True)
        return torch.stack([self._nearly(own, query, self.sentences, float(scales[2])) for own, query in pairs])

    def title_scores(self, texts: Sequence[str]) -> torch.Tensor:
        """How well titles go with queries, [B, N]."""
        return self.titles.scores([title_ids(text) for text in texts], self.idf)

    def _words(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.title_scores(texts), self.texts.scores([feature_ids(text) for text in texts], self.idf)

    def _nearly(self, words: torch.Tensor, query: torch.Tensor, keys: StoredKeys, scale: float) -> torch.Tensor:
        near, off_by = keys.nearly(query)
        total = words + scale * near
        least = total.topk(min(_EXACT, len(total))).values[-1:] - 2 * scale * off_by
        rows = (total >= least).nonzero()[:, 0] if len(total) else torch.zeros(0, dtype=torch.int64)
        total[rows] = words[rows] + scale * keys.best(query[None], rows)[0]
        return total


class StoredKeys:
    """Keys in bytes, all of which every query is compared with: 100,000 documents take a few milliseconds.

    Args:
        table: from `row_table.as_bytes`, N documents.
        absent: the product of a document without a sentence.
    """

    def __init__(self, table: RowTable, absent: float):
        self._table = table
        self._absent = absent

    @cached_property
    def _scale(self) -> torch.Tensor:
        return self._table.columns[SCALE].float()

    @cached_property
    def _longest(self) -> float:
        """Largest sum of the absolute numbers of a key."""
        numbers = self._table.columns[NUMBERS]
        step = max(1, _CHUNK // numbers.shape[1])
        sums = [part.abs().sum(1, dtype=torch.int32) for part in numbers.split(step)]
        return float((torch.cat(sums) * self._scale).max()) if len(numbers) else 0.0

    def best(self, queries: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        """See `SentenceKeys`; rows: of some documents alone."""
        table = self._table if rows is None else self._table.select(rows)
        numbers, scale = table.columns[NUMBERS], table.columns[SCALE].float()
        parts = [queries.new_zeros(0, len(queries))]
        # Whole documents at a time, so few that their products stay in the processor's cache.
        for first, last in pairwise(self._blocks(table)):
            offsets = table.starts[first : last + 1]
            own = slice(int(offsets[0]), int(offsets[-1]))
            products = numbers[own].float() @ queries.T * scale[own, None]
            parts.append(torch.segment_reduce(products, "max", offsets=offsets - offsets[0]))
        return self._where_there(torch.cat(parts), table).T

    @staticmethod
    def _blocks(table: RowTable) -> list[int]:
        """Rows between which tables are cut into parts of about `_CHUNK` numbers."""
        starts, step = table.starts.cpu().numpy(), max(1, _CHUNK // table.columns[NUMBERS].shape[1])
        edges = [0]
        while edges[-1] < len(table):
            fitting = int(np.searchsorted(starts, starts[edges[-1]] + step, side="right")) - 1
            edges.append(min(len(table), max(edges[-1] + 1, fitting)))
        return edges

    def nearly(self, query: torch.Tensor) -> tuple[torch.Tensor, float]:
        """The products [N] of a query [k] in bytes, and how far they may be off."""
        import simsimd

        scale, numbers = float(slot_scales(query)), slot_numbers(query)
        in_bytes = numbers.to(torch.int8)[None].numpy()
        if not self._table.size:
            return query.new_full((len(self._table),), self._absent), 0.0
        keys = self._table.columns[NUMBERS].numpy()
        products = np.asarray(simsimd.cdist(in_bytes, keys, metric="dot", threads=torch.get_num_threads()))[0]
        scores = torch.from_numpy(products).float() * (self._scale * scale)
        best = self._where_there(torch.segment_reduce(scores, "max", offsets=self._table.starts), self._table)
        return best, self._longest * float((query - numbers * scale).abs().max())

    def _where_there(self, best: torch.Tensor, table: RowTable) -> torch.Tensor:
        """Best products [N, ...], where documents have a sentence."""
        there = table.counts > 0
        return best.where(there.view(-1, *[1] * (best.ndim - 1)), self._absent)
