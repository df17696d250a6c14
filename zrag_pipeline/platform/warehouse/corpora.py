"""Corpora and evidence targets as rows, and back, without loss and in the same order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import duckdb

from zrag_core.corpus.types import Corpus, Document, EvidenceTarget, Question
from zrag_core.errors import UnknownCorpusError
from zrag_core.text import evidence_tokens
from zrag_pipeline.platform.warehouse.rows import replace_rows

# Every field but the first, the id, is a column of the same name.
_DOCUMENT, _QUESTION, _TARGET = ([f.name for f in fields(kind)][1:] for kind in (Document, Question, EvidenceTarget))


def save_corpus(con: duckdb.DuckDBPyConnection, corpus_version: str, corpus: Corpus) -> None:
    """Write a corpus, replacing what stood there under the same version."""
    version = {"corpus_version": corpus_version}
    documents = _rows("document_id", corpus.documents, [*_DOCUMENT, "content_hash"])
    for row in documents:
        row["n_tokens"] = evidence_tokens(row["text"])
    questions = _rows("question_id", corpus.questions, _QUESTION)
    summary = {
        "name": corpus.name,
        "notes": corpus.notes,
        "n_documents": len(documents),
        "n_questions": len(questions),
    }
    replace_rows(con, "corpora", [summary], version)
    replace_rows(con, "documents", documents, version)
    replace_rows(con, "questions", questions, version)


def load_corpus(con: duckdb.DuckDBPyConnection, corpus_version: str) -> Corpus:
    """Read a corpus, equal to the one that was saved.

    Raises:
        UnknownCorpusError: there is no such corpus version.
    """
    summary = con.execute("SELECT name, notes FROM corpora WHERE corpus_version = ?", [corpus_version]).fetchone()
    if summary is None:
        raise UnknownCorpusError(
            f"the warehouse has no corpus version '{corpus_version}'", remedy="materialise the corpus assets first"
        )
    documents = _fetch(con, "documents", ["document_id", *_DOCUMENT], corpus_version)
    questions = _fetch(con, "questions", ["question_id", *_QUESTION], corpus_version)
    return Corpus(
        name=summary[0],
        documents=tuple(Document(*row) for row in documents),
        questions=tuple(
            Question(id_, text, tuple(answers), tuple(ids), *(*rest, json.loads(metadata)))
            for id_, text, answers, ids, *rest, metadata in questions
        ),
        notes=tuple(summary[1]),
    )


def save_targets(con: duckdb.DuckDBPyConnection, corpus_version: str, targets: Iterable[EvidenceTarget]) -> None:
    """Write a corpus' evidence targets, replacing the earlier ones."""
    replace_rows(con, "evidence_targets", _rows("target_id", targets, _TARGET), {"corpus_version": corpus_version})


def load_targets(con: duckdb.DuckDBPyConnection, corpus_version: str) -> tuple[EvidenceTarget, ...]:
    """Read a corpus' evidence targets, in the order they were saved.

    Raises:
        UnknownCorpusError: there are none.
    """
    rows = _fetch(con, "evidence_targets", ["target_id", *_TARGET], corpus_version)
    if not rows:
        raise UnknownCorpusError(
            f"the warehouse has no evidence targets for corpus version '{corpus_version}'",
            remedy="materialise the evidence targets first",
        )
    return tuple(EvidenceTarget(id_, query, tuple(ids), *rest) for id_, query, ids, *rest in rows)


def _rows(
    id_column: str, items: Iterable[Document | Question | EvidenceTarget], names: Sequence[str]
) -> list[dict[str, Any]]:
    return [
        {id_column: item.id, "position": position} | {name: getattr(item, name) for name in names}
        for position, item in enumerate(items)
    ]


def _fetch(
    con: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], corpus_version: str
) -> list[tuple[Any, ...]]:
    query = f"SELECT {', '.join(columns)} FROM {table} WHERE corpus_version = ? ORDER BY position"
    return con.execute(query, [corpus_version]).fetchall()
