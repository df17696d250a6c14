"""Corpora and evidence targets as rows, and back, without loss and in the same order."""

from __future__ import annotations

import json
from collections.abc import Iterable

import duckdb

from zrag_core.corpus.types import Corpus, Document, EvidenceTarget, Question
from zrag_core.errors import WarehouseError
from zrag_core.text import evidence_tokens
from zrag_pipeline.platform.warehouse.rows import replace_rows


def save_corpus(con: duckdb.DuckDBPyConnection, corpus_version: str, corpus: Corpus) -> None:
    """Write a corpus, replacing what stood there under the same version."""
    version = {"corpus_version": corpus_version}
    documents = [
        {
            "document_id": document.id,
            "position": position,
            "title": document.title,
            "text": document.text,
            "content_hash": document.content_hash,
            "n_tokens": evidence_tokens(document.text),
            "source_id": document.source_id,
            "source_start": document.source_start,
        }
        for position, document in enumerate(corpus.documents)
    ]
    questions = [
        {
            "question_id": question.id,
            "position": position,
            "question": question.question,
            "golden_answers": question.golden_answers,
            "document_ids": question.document_ids,
            "evidence": question.evidence,
            "split": question.split,
            "question_type": question.question_type,
            "language": question.language,
            "fact_id": question.fact_id,
            "metadata": question.metadata,
        }
        for position, question in enumerate(corpus.questions)
    ]
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
        WarehouseError: there is no such corpus version.
    """
    summary = con.execute("SELECT name, notes FROM corpora WHERE corpus_version = ?", [corpus_version]).fetchone()
    if summary is None:
        raise WarehouseError(
            f"the warehouse has no corpus version '{corpus_version}'", remedy="materialise the corpus assets first"
        )
    documents = con.execute(
        """SELECT document_id, title, text, source_id, source_start
        FROM documents WHERE corpus_version = ? ORDER BY position""",
        [corpus_version],
    ).fetchall()
    questions = con.execute(
        """SELECT question_id, question, golden_answers, document_ids, evidence, split, question_type,
            language, fact_id, metadata
        FROM questions WHERE corpus_version = ? ORDER BY position""",
        [corpus_version],
    ).fetchall()
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
    rows = [
        {
            "target_id": target.id,
            "position": position,
            "query": target.query,
            "document_ids": target.document_ids,
            "evidence": target.evidence,
            "method": target.method,
            "split": target.split,
        }
        for position, target in enumerate(targets)
    ]
    replace_rows(con, "evidence_targets", rows, {"corpus_version": corpus_version})


def load_targets(con: duckdb.DuckDBPyConnection, corpus_version: str) -> tuple[EvidenceTarget, ...]:
    """Read a corpus' evidence targets, in the order they were saved.

    Raises:
        WarehouseError: there are none.
    """
    rows = con.execute(
        """SELECT target_id, query, document_ids, evidence, method, split
        FROM evidence_targets WHERE corpus_version = ? ORDER BY position""",
        [corpus_version],
    ).fetchall()
    if not rows:
        raise WarehouseError(
            f"the warehouse has no evidence targets for corpus version '{corpus_version}'",
            remedy="materialise the evidence targets first",
        )
    return tuple(EvidenceTarget(id_, query, tuple(ids), *rest) for id_, query, ids, *rest in rows)
