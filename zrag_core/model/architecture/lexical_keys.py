"""The lexical key of a document: what its title and its text say, word by word, in a fixed number of numbers.

A key depends on its document alone (no corpus average, no corpus idf goes into it), so that a document added or
deleted changes no other row. How rare a word is belongs to the query's side: it comes from document counts, which
are updated with the rows and stay exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.word_features import BUCKETS, bucket, feature_ids, sign_vectors, sketch
from zrag_core.text import search_terms

TYPICAL_LENGTH = 150.0
"""Features of a passage; stands for BM25's corpus average, which a row must not depend on."""


def title_ids(text: str) -> list[int]:
    """Bucket ids of a title's terms and pairs of neighbouring terms ("Little Branmoor" is not "Branmoor")."""
    terms = search_terms(text)
    pairs = [f"{first} {second}" for first, second in pairwise(terms)]
    return [bucket(f"title:{feature}") for feature in terms + pairs]


def lexical_keys(documents: Sequence[Document], title_width: int, text_width: int) -> torch.Tensor:
    """Keys [N, title_width + text_width]: the title's normalised sketch beside the text's BM25 term weights."""
    titles = torch.zeros(len(documents), title_width)
    for row, document in enumerate(documents):
        ids = torch.tensor(sorted(set(title_ids(document.title))), dtype=torch.int64)
        if len(ids) and title_width:
            titles[row] = sign_vectors(ids, title_width).sum(0) / len(ids) ** 0.5
    texts = [feature_ids(document.text) for document in documents]
    return torch.cat([titles, sketch(texts, text_width, average=TYPICAL_LENGTH)], 1)


def document_frequency(documents: Sequence[Document]) -> torch.Tensor:
    """How many documents hold each feature of text or title, int32 [BUCKETS]."""
    counts = torch.zeros(BUCKETS, dtype=torch.int32)
    for document in documents:
        present = set(feature_ids(document.text)) | set(title_ids(document.title)) | set(title_ids(document.text))
        counts[sorted(present)] += 1
    return counts
