"""The corpus version: a fingerprint of what the documents say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from zrag_core.corpus.types import Document, Question


def questions_version(questions: Iterable[Question]) -> str:
    """Fingerprint of questions with their answers, evidence and splits (12 hex digits), whatever their order.

    Two runs on the same documents with other splits differ here: what one trained on, the other may test.
    """
    rows = sorted(
        "\x1f".join((q.id, q.question, *q.golden_answers, *q.document_ids, q.evidence or "", q.split))
        for q in questions
    )
    return hashlib.sha256("\x1e".join(rows).encode("utf-8")).hexdigest()[:12]


def corpus_version(documents: Iterable[Document]) -> str:
    """Return 12 hexadecimal digits that change exactly when a document is added, removed or changed.

    The order of the documents does not matter, and neither do questions.
    """
    digest = hashlib.sha256()
    for content_hash in sorted(document.content_hash for document in documents):
        digest.update(bytes.fromhex(content_hash))
    return digest.hexdigest()[:12]
