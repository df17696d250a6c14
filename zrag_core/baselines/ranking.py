"""From scores to a ranking, and from a ranking to what a system hands over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from zrag_core.corpus.types import Document
from zrag_core.errors import CheckpointError
from zrag_core.evidence import Retrieved, Segment

# Documents (and pieces) handed over per question: recall is measured to rank 10, and fifty
# pieces fill the largest evidence budget even where passages are short.
DEPTH = 50


def top_indices(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the `k` highest scores, best first; equal scores keep their order.

    Args:
        scores: [n].
        k: how many; fewer come back where n is smaller.

    Returns:
        Integer positions [min(k, n)].
    """
    candidates = np.arange(len(scores))
    if k < len(scores):
        # Everything that ties with the k-th score stays a candidate, so that the stable sort decides.
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= threshold)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]


def retrieved_passages(question_id: str, ranked: Iterable[tuple[Document, float]], latency_ms: float) -> Retrieved:
    """A ranking of documents whose evidence is their whole texts, best first."""
    pairs = [(document, float(score)) for document, score in ranked]
    return Retrieved(
        question_id=question_id,
        document_ids=tuple(document.id for document, _ in pairs),
        document_scores=tuple(score for _, score in pairs),
        segments=tuple(Segment(document.id, 0, len(document.text), document.text, score) for document, score in pairs),
        latency_ms=latency_ms,
    )


def documents_by_id(index_ids: Iterable[str], documents: Sequence[Document]) -> dict[str, Document]:
    """Documents by id, after checking that an index was built from exactly these.

    Raises:
        CheckpointError: the index holds other documents than the corpus.
    """
    by_id = {document.id: document for document in documents}
    if different := set(index_ids) ^ by_id.keys():
        example = min(different)
        side = "corpus but not in the index" if example in by_id else "index but not in the corpus"
        raise CheckpointError(
            f"the index is of another corpus: {len(different)} documents differ ({example!r} is in the {side})",
            remedy="build the index again",
        )
    return by_id
