"""Words of documents as sparse rows: bucket ids and BM25 weights, padded to the longest row.

What the sketches of `lexical_keys` estimate is exact here, in fewer bytes. As there, a row depends on its document
alone; how rare a word is comes from the query's side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from zrag_core.bm25_weights import term_weight
from zrag_core.corpus.types import Document
from zrag_core.model.architecture.lexical_keys import TYPICAL_LENGTH, title_ids
from zrag_core.model.architecture.word_features import BUCKETS, feature_ids

NO_WORD = -1
"""Fills up rows."""

_GATHERED = 1 << 24  # numbers held at once

WordRows = tuple[torch.Tensor, torch.Tensor]
"""Bucket ids, int32 [N, L], and weights, float16 [N, L]."""


def title_words(documents: Sequence[Document]) -> WordRows:
    """The features of every title, of equal weight, together of length one."""
    rows = []
    for document in documents:
        ids = sorted(set(title_ids(document.title)))
        rows.append((ids, torch.full((len(ids),), max(1, len(ids)) ** -0.5)))
    return _stack(rows)


def text_words(documents: Sequence[Document]) -> WordRows:
    """The features of every text with their BM25 weights, idf left out."""
    rows = []
    for document in documents:
        bag = feature_ids(document.text)
        counts = Counter(bag)
        ids = sorted(counts)
        frequency = torch.tensor([float(counts[i]) for i in ids])
        rows.append((ids, term_weight(frequency, len(bag), TYPICAL_LENGTH)))
    return _stack(rows)


def word_scores(queries: Sequence[Sequence[int]], rows: WordRows, idf: torch.Tensor) -> torch.Tensor:
    """Inner products [B, N] of queries, given as bags of bucket ids and weighted by idf [BUCKETS], with N rows."""
    ids, weights = rows
    asked = torch.zeros(len(queries), BUCKETS + 1, device=idf.device)
    for number, bag in enumerate(queries):
        present = torch.tensor(sorted(bag), dtype=torch.int64, device=idf.device)
        asked[number].index_add_(0, present, idf[present])
    places = ids.long().where(ids >= 0, BUCKETS)  # padding looks at a zero
    step = max(1, _GATHERED // max(1, ids.numel()))
    parts = [torch.einsum("bnl,nl->bn", part[:, places], weights.float()) for part in asked.split(step)]
    return torch.cat(parts)


def _stack(rows: Sequence[tuple[list[int], torch.Tensor]]) -> WordRows:
    longest = max((len(ids) for ids, _ in rows), default=0)
    words = torch.full((len(rows), longest), NO_WORD, dtype=torch.int32)
    weights = torch.zeros(len(rows), longest, dtype=torch.float16)
    for number, (ids, own) in enumerate(rows):
        words[number, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
        weights[number, : len(ids)] = own.half()
    return words, weights
