"""What words of titles are compared by, and how many documents hold a word.

How rare a word is comes from these counts, which are updated with the rows and stay exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.word_features import BUCKETS, bucket, feature_ids
from zrag_core.text import search_terms

TYPICAL_LENGTH = 150.0
"""Features of a passage; stands for BM25's corpus average, which a row must not depend on."""


def title_ids(text: str) -> list[int]:
    """Bucket ids of a title's terms and pairs of neighbouring terms ("Little Branmoor" is not "Branmoor")."""
    terms = search_terms(text)
    pairs = [f"{first} {second}" for first, second in pairwise(terms)]
    return [bucket(f"title:{feature}") for feature in terms + pairs]


def document_frequency(documents: Sequence[Document]) -> torch.Tensor:
    """How many documents hold each feature of text or title, int32 [BUCKETS]."""
    counts = torch.zeros(BUCKETS, dtype=torch.int32)
    for document in documents:
        present = set(feature_ids(document.text)) | set(title_ids(document.title)) | set(title_ids(document.text))
        counts[sorted(present)] += 1
    return counts
