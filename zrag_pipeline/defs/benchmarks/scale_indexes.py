"""The indexes that a memory is held against: BM25 by two libraries, and dense vectors searched exactly and by Faiss."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zrag_core.baselines.ranking import top_indices
from zrag_core.corpus.types import Document
from zrag_core.settings import Settings
from zrag_core.text import search_terms

_DEPTH = 10


@dataclass(frozen=True)
class Search:
    """An index.

    Attributes:
        run: finds ten documents for each of some questions.
        size: bytes of what has to be kept to search.
    """

    name: str
    run: Callable[[Sequence[str]], object]
    size: int


def searches(documents: Sequence[Document], settings: Settings) -> Iterator[Search]:
    """One index after the other, so that only one is in memory; those whose package is absent are left out."""
    terms = [search_terms(document.contents) for document in documents]
    yield _rank_bm25(terms, settings)
    if importlib.util.find_spec("bm25s"):
        yield _bm25s(terms, settings)
    encode, vectors = _vectors(documents, settings)
    yield Search("dense", lambda texts: [top_indices(row, _DEPTH) for row in encode(texts) @ vectors.T], vectors.nbytes)
    if importlib.util.find_spec("faiss"):
        yield from _faiss(encode, vectors)


def _rank_bm25(terms: Sequence[list[str]], settings: Settings) -> Search:
    from rank_bm25 import BM25Okapi

    index = BM25Okapi(terms, k1=settings.baselines.bm25_k1, b=settings.baselines.bm25_b)

    def run(texts: Sequence[str]) -> object:
        return [top_indices(index.get_scores(search_terms(text)), _DEPTH) for text in texts]

    return Search("rank_bm25", run, len(pickle.dumps((index.doc_freqs, index.idf, index.doc_len))))


def _bm25s(terms: Sequence[list[str]], settings: Settings) -> Search:
    import bm25s

    index = bm25s.BM25(k1=settings.baselines.bm25_k1, b=settings.baselines.bm25_b)
    index.index(terms, show_progress=False)

    def run(texts: Sequence[str]) -> object:
        return index.retrieve([search_terms(text) for text in texts], k=min(_DEPTH, len(terms)), show_progress=False)

    return Search("bm25s", run, sum(np.asarray(index.scores[name]).nbytes for name in ("data", "indices", "indptr")))


def _vectors(
    documents: Sequence[Document], settings: Settings
) -> tuple[Callable[[Sequence[str]], np.ndarray], np.ndarray]:
    """The encoder of questions, and unit vectors of all documents, float32; each text is encoded once."""
    from zrag_core.baselines.encoders import make_encoder

    texts = [document.contents for document in documents]
    distinct = list(dict.fromkeys(texts))
    encoder = make_encoder(settings.baselines, distinct)
    places = {text: number for number, text in enumerate(distinct)}
    made = np.ascontiguousarray(encoder.encode_documents(distinct)[[places[text] for text in texts]], dtype=np.float32)
    return lambda asked: np.ascontiguousarray(encoder.encode_queries(list(asked)), dtype=np.float32), made


def _faiss(encode: Callable[[Sequence[str]], np.ndarray], vectors: np.ndarray) -> Iterator[Search]:
    import faiss
    import torch

    faiss.omp_set_num_threads(torch.get_num_threads())
    kinds: dict[str, Any] = {
        "faiss_flat": faiss.IndexFlatIP(vectors.shape[1]),
        "faiss_hnsw": faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT),
    }
    for name, index in kinds.items():
        index.add(vectors)

        def run(texts: Sequence[str], own: Any = index) -> object:
            return own.search(encode(texts), _DEPTH)

        yield Search(name, run, len(faiss.serialize_index(index)))
