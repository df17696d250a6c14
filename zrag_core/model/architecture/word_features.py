"""Hashed word features and their random projection: the lexical half of the router.

A text becomes a bag of feature ids: its search terms and the five-character prefixes of longer
ones (a language-free stand-in for stemming), hashed into a fixed number of buckets. Each bucket
owns a fixed random sign vector, so that a sum of them keeps inner products up to noise
(Achlioptas 2003, Database-friendly random projections). The vectors are computed from the bucket
id by integer mixing (splitmix64, Steele et al. 2014) and never stored: any vocabulary costs nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from zrag_core.bm25_weights import absence_odds, term_weight
from zrag_core.text import search_terms

BUCKETS = 1 << 17
_PREFIX = 5


@lru_cache(maxsize=1 << 17)
def bucket(term: str) -> int:
    """Bucket of a feature: a stable hash, the same in every process."""
    digest = hashlib.blake2b(term.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % BUCKETS


def feature_ids(text: str) -> list[int]:
    """Bucket ids of a text's features, with repetitions, in reading order."""
    terms = search_terms(text)
    prefixes = [f"{term[:_PREFIX]}*" for term in terms if len(term) > _PREFIX]
    return [bucket(term) for term in terms + prefixes]


def sign_vectors(buckets: torch.Tensor, width: int) -> torch.Tensor:
    """Unit vectors of random signs.

    Args:
        buckets: integer tensor [...] of bucket ids.
        width: length of each vector.

    Returns:
        float32 tensor [..., width] with entries +-1/sqrt(width), the same on every machine.
    """
    device = buckets.device
    n_words = -(-width // 32)
    word = torch.arange(n_words, dtype=torch.int64, device=device)
    x = buckets.to(torch.int64)[..., None] * n_words + word + 1
    x = x * -7046029254386353131  # 0x9E3779B97F4A7C15, the golden-ratio increment
    x = (x ^ _shift(x, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ _shift(x, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    x = x ^ _shift(x, 31)
    bits = (x[..., None] >> torch.arange(32, device=device)) & 1
    signs = bits.reshape(*buckets.shape, n_words * 32)[..., :width]
    unit: torch.Tensor = (signs.to(torch.float32) * 2 - 1) / width**0.5
    return unit


def _shift(x: torch.Tensor, by: int) -> torch.Tensor:
    """Logical right shift of int64 (torch's own is arithmetic)."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def inverse_document_frequency(bags: Sequence[Sequence[int]]) -> torch.Tensor:
    """BM25's idf for every bucket, [BUCKETS]; buckets that no document holds get the rarest value."""
    n = len(bags)
    frequency = np.zeros(BUCKETS)
    for bag in bags:
        frequency[list(set(bag))] += 1
    return torch.from_numpy(np.log1p(absence_odds(frequency, n))).float()


def sketch(bags: Sequence[Sequence[int]], width: int, *, average: float | None = None) -> torch.Tensor:
    """Random projection of the documents' BM25 term weights.

    Args:
        bags: feature ids of each document.
        width: numbers per document.
        average: length that BM25 holds a document's against; left out: the mean of `bags`.

    Returns:
        float32 [len(bags), width]; its inner product with an idf-weighted query sketch
        estimates the BM25 score (Robertson & Zaragoza 2009).
    """
    if average is None:
        average = max(1.0, sum(map(len, bags)) / max(1, len(bags)))
    rows = []
    for bag in bags:
        counts = Counter(bag)
        ids = torch.tensor(list(counts), dtype=torch.int64)
        frequency = torch.tensor(list(counts.values()), dtype=torch.float32)
        weight = term_weight(frequency, len(bag), average)
        rows.append(weight @ sign_vectors(ids, width) if len(counts) else torch.zeros(width))
    return torch.stack(rows) if rows else torch.zeros(0, width)
