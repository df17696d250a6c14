"""BM25 over passages and over sentences, on rank-bm25's BM25Okapi.

rank-bm25 computes the Robertson-Sparck-Jones idf, log((N - n + 0.5) / (n + 0.5)), which is
negative for terms in more than half of the documents, and replaces negative ones by a quarter
of the average idf (Trotman et al. 2014, "Improvements to BM25 and Language Models Examined").
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rank_bm25 import BM25Okapi

from zrag_core.baselines.index_folder import damaged, read_index_config, read_index_file, write_index_folder
from zrag_core.baselines.ranking import DEPTH, documents_by_id, top_indices
from zrag_core.bm25_weights import absence_odds
from zrag_core.corpus.types import Document, Question
from zrag_core.errors import CorpusError
from zrag_core.evidence import Retrieved, Segment
from zrag_core.sentences import split_sentences
from zrag_core.settings import BaselineSettings
from zrag_core.system_factory import SystemInputs
from zrag_core.systems import SystemSpec
from zrag_core.text import search_terms

Unit = Literal["passage", "sentence"]
_NAMES: dict[Unit, str] = {"passage": "bm25", "sentence": "bm25_sentence"}
_TERMS = "terms.jsonl"
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class IndexedPiece:
    """The text behind one row of the index: characters `start` to `end` of a document's text."""

    document_id: str
    start: int
    end: int
    terms: tuple[str, ...]


class Bm25Index:
    """A BM25 index over passages or sentences.

    Attributes:
        unit: "passage" or "sentence".
        pieces: the rows, in document order.
        document_ids: the indexed documents, in corpus order.
        corpus_version: fingerprint of the corpus it was built from ("" where not given).
    """

    def __init__(
        self,
        pieces: Sequence[IndexedPiece],
        document_ids: Sequence[str],
        *,
        unit: Unit,
        k1: float,
        b: float,
        corpus_version: str,
    ):
        if not any(piece.terms for piece in pieces):
            raise CorpusError("no document holds a word to index", remedy="check the corpus' texts")
        self.unit: Unit = unit
        self.pieces = tuple(pieces)
        self.document_ids = tuple(document_ids)
        self.corpus_version = corpus_version
        self._k1, self._b = k1, b
        # At k1 = 0, and for empty pieces at b = 1, rank-bm25 would divide nothing by nothing.
        safe_k1, safe_b = max(k1, _TINY), min(b, 1 - _TINY)
        self._scorer = BM25Okapi([piece.terms for piece in pieces], k1=safe_k1, b=safe_b)
        if self._scorer.average_idf < _TINY:
            # In a corpus of a few near-identical documents the floor itself is negative, and a match
            # would lower the score. Lucene's idf, log(1 + odds), is always positive.
            self._scorer.idf = _positive_idf(pieces)

    @classmethod
    def build(
        cls,
        documents: Sequence[Document],
        settings: BaselineSettings,
        *,
        unit: Unit = "passage",
        corpus_version: str = "",
    ) -> Bm25Index:
        """Index documents.

        Args:
            documents: the corpus.
            settings: `bm25_k1` and `bm25_b`.
            unit: "passage" indexes `document.contents`; "sentence" each sentence after its title.
            corpus_version: stored with the index.

        Raises:
            CorpusError: no document holds a word.
        """
        pieces: list[IndexedPiece] = []
        for document in documents:
            if unit == "passage":
                pieces.append(IndexedPiece(document.id, 0, len(document.text), tuple(search_terms(document.contents))))
                continue
            title = tuple(search_terms(document.title))
            for sentence in split_sentences(document.text):
                pieces.append(
                    IndexedPiece(
                        document.id, sentence.start, sentence.end, title + tuple(search_terms(sentence.reading))
                    )
                )
        return cls(
            pieces,
            [document.id for document in documents],
            unit=unit,
            k1=settings.bm25_k1,
            b=settings.bm25_b,
            corpus_version=corpus_version,
        )

    def scores(self, query: str) -> np.ndarray:
        """BM25 scores of all pieces, float64 [pieces]; a term asked twice counts twice."""
        scores: np.ndarray = self._scorer.get_scores(search_terms(query))
        return scores

    def save(self, folder: Path) -> None:
        """Write the index as a folder: `config.json` and one JSON line of terms per piece."""
        config = {
            "unit": self.unit,
            "k1": self._k1,
            "b": self._b,
            "corpus_version": self.corpus_version,
            "pieces": len(self.pieces),
            "document_ids": self.document_ids,
        }
        rows = (
            json.dumps(
                {"document_id": piece.document_id, "start": piece.start, "end": piece.end, "terms": piece.terms},
                ensure_ascii=False,
            )
            for piece in self.pieces
        )
        write_index_folder(folder, "bm25", config, {_TERMS: "".join(f"{row}\n" for row in rows).encode("utf-8")})

    @classmethod
    def load(cls, folder: Path) -> Bm25Index:
        """Read an index folder.

        Raises:
            CheckpointError: missing, damaged, or not a BM25 index.
        """
        config = read_index_config(folder, "bm25")
        lines = read_index_file(folder, _TERMS).decode("utf-8").split("\n")[:-1]
        try:
            rows = [json.loads(line) for line in lines]
            pieces = [IndexedPiece(row["document_id"], row["start"], row["end"], tuple(row["terms"])) for row in rows]
            expected = config["pieces"]
            index = cls(
                pieces,
                config["document_ids"],
                unit=config["unit"],
                k1=config["k1"],
                b=config["b"],
                corpus_version=config["corpus_version"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(folder, f"{type(error).__name__} {error}") from error
        if len(pieces) != expected:
            raise damaged(folder, f"{len(pieces)} of {expected} pieces")
        return index


class Bm25System:
    """BM25 over passages or sentences; evidence is the best of them as they stand, documents rank by their best one.

    Attributes:
        name: "bm25" over passages, "bm25_sentence" over sentences.
    """

    def __init__(self, index: Bm25Index, documents: Sequence[Document]):
        """Pair an index with its documents.

        Raises:
            CheckpointError: the index was built from other documents.
        """
        self.name = _NAMES[index.unit]
        self._index = index
        self._documents = documents_by_id(index.document_ids, documents)
        row_of = {document_id: row for row, document_id in enumerate(index.document_ids)}
        self._rows = np.array([row_of[piece.document_id] for piece in index.pieces], dtype=np.intp)

    def retrieve(self, questions: Sequence[Question]) -> list[Retrieved]:
        """Rank pieces and documents for each question."""
        return [self._retrieve_one(question) for question in questions]

    def _retrieve_one(self, question: Question) -> Retrieved:
        started = time.perf_counter()
        scores = self._index.scores(question.question)
        segments = []
        for i in top_indices(scores, DEPTH):
            piece = self._index.pieces[i]
            text = self._documents[piece.document_id].text[piece.start : piece.end]
            segments.append(Segment(piece.document_id, piece.start, piece.end, text, float(scores[i])))
        # Over all pieces, not only the best ones: ten documents are wanted even where one fills the list.
        best_of_document = np.full(len(self._index.document_ids), -np.inf)
        np.maximum.at(best_of_document, self._rows, scores)
        ranked = top_indices(best_of_document, DEPTH)
        return Retrieved(
            question_id=question.id,
            document_ids=tuple(self._index.document_ids[i] for i in ranked),
            document_scores=tuple(float(best_of_document[i]) for i in ranked),
            segments=tuple(segments),
            latency_ms=(time.perf_counter() - started) * 1e3,
        )


def _positive_idf(pieces: Sequence[IndexedPiece]) -> dict[str, float]:
    """Lucene's idf of each term."""
    holding: dict[str, int] = {}
    for piece in pieces:
        for term in set(piece.terms):
            holding[term] = holding.get(term, 0) + 1
    return {term: math.log1p(absence_odds(n, len(pieces))) for term, n in holding.items()}


def make_bm25(_spec: SystemSpec, inputs: SystemInputs) -> Bm25System:
    """BM25 over the indexed passages."""
    return Bm25System(Bm25Index.load(inputs.indexes["bm25"]["passage"]), inputs.corpus.documents)


def make_bm25_sentence(_spec: SystemSpec, inputs: SystemInputs) -> Bm25System:
    """BM25 over the indexed sentences."""
    return Bm25System(Bm25Index.load(inputs.indexes["bm25"]["sentence"]), inputs.corpus.documents)
