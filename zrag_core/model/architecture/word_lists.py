"""Words of documents as sparse rows, bucket ids and BM25 weights, and the index that scores all of them at once.

A row depends on its document alone (no corpus average and no idf goes into it), so that a document added or deleted
changes no other one. How rare a word is comes from the query's side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from zrag_core.bm25_weights import term_weight
from zrag_core.corpus.types import Document
from zrag_core.model.architecture.document_words import TYPICAL_LENGTH, title_ids
from zrag_core.model.architecture.row_table import RowTable
from zrag_core.model.architecture.word_features import BUCKETS, feature_ids

WORD, WEIGHT = "word", "weight"
_FREQUENT = 0.25  # of the documents; the weights of such a word are kept for all of them, which is faster to add up


def title_words(documents: Sequence[Document]) -> RowTable:
    """The features of every title, of equal weight, together of length one."""
    rows = []
    for document in documents:
        ids = sorted(set(title_ids(document.title)))
        rows.append((ids, torch.full((len(ids),), max(1, len(ids)) ** -0.5)))
    return _table(rows)


def text_words(documents: Sequence[Document]) -> RowTable:
    """The features of every text with their BM25 weights, idf left out."""
    rows = []
    for document in documents:
        bag = feature_ids(document.text)
        counts = Counter(bag)
        ids = sorted(counts)
        frequency = torch.tensor([float(counts[i]) for i in ids])
        rows.append((ids, term_weight(frequency, len(bag), TYPICAL_LENGTH)))
    return _table(rows)


class WordIndex:
    """The rows the other way round: documents of each word, so that a query looks at its own words alone.

    Args:
        table: from `title_words` or `text_words`, N documents.
    """

    def __init__(self, table: RowTable):
        from scipy.sparse import csr_matrix

        words, weights = (table.columns[name].cpu().numpy() for name in (WORD, WEIGHT))
        shape = (len(table), BUCKETS)
        by_word: Any = csr_matrix((weights.astype(np.float32), words, table.starts.cpu().numpy()), shape).tocsc()
        self._starts, self._rows, self._weights = by_word.indptr, by_word.indices, by_word.data
        self._n = len(table)
        frequent = np.flatnonzero(np.diff(self._starts) > _FREQUENT * self._n).tolist()
        self._frequent = {word: by_word[:, [word]].toarray()[:, 0] for word in frequent}

    def scores(self, queries: Sequence[Sequence[int]], idf: torch.Tensor) -> torch.Tensor:
        """Inner products [B, N] of queries, given as bags of bucket ids and weighted by idf [BUCKETS], with N rows."""
        result = np.zeros((len(queries), self._n), dtype=np.float32)
        for scores, bag in zip(result, queries, strict=True):
            counts = Counter(bag)
            ids = sorted(counts)
            for word, weight in zip(ids, idf[torch.tensor(ids, dtype=torch.int64)].tolist(), strict=True):
                if word in self._frequent:
                    scores += counts[word] * weight * self._frequent[word]
                else:
                    own = slice(self._starts[word], self._starts[word + 1])
                    scores[self._rows[own]] += counts[word] * weight * self._weights[own]
        return torch.from_numpy(result).to(idf.device)


def _table(rows: Sequence[tuple[list[int], torch.Tensor]]) -> RowTable:
    words = torch.tensor([word for ids, _ in rows for word in ids], dtype=torch.int32)
    weights = torch.cat([own for _, own in rows]) if rows else torch.zeros(0)
    counts = torch.tensor([len(ids) for ids, _ in rows], dtype=torch.int32)
    return RowTable({WORD: words, WEIGHT: weights.half()}, counts)
