"""Dense retrieval: an encoder and exact search by dot product.

Exact search is enough at this scale: 100,000 documents of 256 numbers are 51 MFLOP per question.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zrag_core.answering.ledger import SpendingLedger
from zrag_core.baselines.encoders import encoder_file_names, make_encoder, restore_encoder
from zrag_core.baselines.index_folder import damaged, read_index_config, read_index_file, write_index_folder
from zrag_core.baselines.ranking import DEPTH, documents_by_id, retrieved_passages, top_indices
from zrag_core.baselines.text_encoder import Encoder
from zrag_core.corpus.types import Document, Question
from zrag_core.evidence import Retrieved
from zrag_core.settings import BaselineSettings
from zrag_core.system_factory import SystemInputs
from zrag_core.systems import SystemSpec

_VECTORS = "vectors.safetensors"
# Questions scored at once: bounds the score matrix to 100 MB at 100,000 documents.
_BATCH = 256


class DenseIndex:
    """One unit vector per document, and the encoder that made them.

    Attributes:
        encoder: makes vectors of questions.
        vectors: float32 [documents, dimensions].
        document_ids: row order, which is corpus order.
        corpus_version: fingerprint of the corpus it was built from ("" where not given).
    """

    def __init__(self, encoder: Encoder, vectors: np.ndarray, document_ids: Sequence[str], *, corpus_version: str):
        self.encoder = encoder
        self.vectors = vectors
        self.document_ids = tuple(document_ids)
        self.corpus_version = corpus_version

    @classmethod
    def build(
        cls,
        documents: Sequence[Document],
        settings: BaselineSettings,
        *,
        corpus_version: str = "",
        ledger: SpendingLedger | None = None,
    ) -> DenseIndex:
        """Encode the title and text of every document.

        Args:
            ledger: holds the spending limit where embeddings are paid for.

        Raises:
            SettingsError: the encoder's package, model or key is missing.
            CorpusError: no document holds a word (`lsa`).
            AnsweringError: the embedding server cannot be reached or refuses, or the spending limit is reached.
        """
        texts = [document.contents for document in documents]
        encoder = make_encoder(settings, texts, ledger)
        vectors = encoder.encode_documents(texts)
        return cls(encoder, vectors, [document.id for document in documents], corpus_version=corpus_version)

    def scores(self, queries: Sequence[str]) -> np.ndarray:
        """Cosine similarities, float32 [queries, documents]."""
        similarities: np.ndarray = self.encoder.encode_queries(queries) @ self.vectors.T
        return similarities

    def save(self, folder: Path) -> None:
        """Write the index as a folder: `config.json`, the vectors, and the encoder's own files."""
        from safetensors.numpy import save

        config = {
            "encoder": self.encoder.name,
            "dimensions": self.vectors.shape[1],
            "corpus_version": self.corpus_version,
            "document_ids": self.document_ids,
        }
        # safetensors writes the buffer as it lies in memory, whatever the strides say.
        files = {_VECTORS: save({"vectors": np.ascontiguousarray(self.vectors)}), **self.encoder.files()}
        write_index_folder(folder, "dense", config, files)

    @classmethod
    def load(cls, folder: Path, ledger: SpendingLedger | None = None) -> DenseIndex:
        """Read an index folder; a neural encoder is loaded by its name, and `ledger` holds what its queries may cost.

        Raises:
            CheckpointError: missing, damaged, or not a dense index.
            SettingsError: the encoder's package, model or key is missing.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        config = read_index_config(folder, "dense")
        try:
            name, document_ids = config["encoder"], config["document_ids"]
            expected = (len(document_ids), config["dimensions"])
            vectors = load(read_index_file(folder, _VECTORS))["vectors"]
            files = {file: read_index_file(folder, file) for file in encoder_file_names(name)}
            encoder = restore_encoder(name, files, ledger)
            corpus_version = config["corpus_version"]
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            raise damaged(folder, f"{type(error).__name__} {error}") from error
        if vectors.shape != expected:
            raise damaged(folder, f"vectors are {vectors.shape}, {expected} expected")
        return cls(encoder, vectors, document_ids, corpus_version=corpus_version)


class DenseSystem:
    """Exact dense search; evidence is the best passages as they stand."""

    name = "dense"

    def __init__(self, index: DenseIndex, documents: Sequence[Document]):
        """Pair an index with its documents.

        Raises:
            CheckpointError: the index was built from other documents.
        """
        self._index = index
        by_id = documents_by_id(index.document_ids, documents)
        self._documents = [by_id[document_id] for document_id in index.document_ids]

    def retrieve(self, questions: Sequence[Question]) -> list[Retrieved]:
        """Rank the passages for each question, in batches."""
        results: list[Retrieved] = []
        for first in range(0, len(questions), _BATCH):
            results.extend(self._retrieve_batch(questions[first : first + _BATCH]))
        return results

    def _retrieve_batch(self, batch: Sequence[Question]) -> list[Retrieved]:
        started = time.perf_counter()
        scores = self._index.scores([question.question for question in batch])
        best = [top_indices(row, DEPTH) for row in scores]
        latency = (time.perf_counter() - started) * 1e3 / len(batch)
        return [
            retrieved_passages(question.id, [(self._documents[i], row[i]) for i in rows], latency)
            for question, row, rows in zip(batch, scores, best, strict=True)
        ]


def make_dense(_spec: SystemSpec, inputs: SystemInputs) -> DenseSystem:
    """Exact search over the indexed vectors."""
    return DenseSystem(DenseIndex.load(inputs.indexes["dense"]["passage"], inputs.ledger), inputs.corpus.documents)
