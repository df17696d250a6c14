"""The corpus version: a fingerprint of what the documents say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from zrag_core.corpus.types import Document


def corpus_version(documents: Iterable[Document]) -> str:
    """Return 12 hexadecimal digits that change exactly when a document is added, removed or changed.

    The order of the documents does not matter, and neither do questions.
    """
    digest = hashlib.sha256()
    for content_hash in sorted(document.content_hash for document in documents):
        digest.update(bytes.fromhex(content_hash))
    return digest.hexdigest()[:12]
