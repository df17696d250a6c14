"""What a corpus is made of: documents, questions and evidence targets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

SPLITS = ("train", "dev", "test", "new_documents", "unanswerable")
QUESTION_TYPES = ("single", "two_hop", "vague")


@dataclass(frozen=True, slots=True)
class Document:
    """One passage of the corpus: what one row of the memory Z holds.

    Attributes:
        id: unique in the corpus.
        title: may be empty.
        text: never empty, Unicode NFC.
        source_id: id of the longer document that this passage was cut from (its own id if whole).
        source_start: offset of `text` in that longer document, in characters.
    """

    id: str
    title: str
    text: str
    source_id: str = ""
    source_start: int = 0

    @property
    def contents(self) -> str:
        """Title and text, the form that indexes and the encoder read."""
        return f"{self.title}\n{self.text}" if self.title else self.text

    @property
    def content_hash(self) -> str:
        """SHA-256 over id, title and text: changes exactly when the document does."""
        payload = "\x1f".join((self.id, self.title, self.text))
        return hashlib.sha256(payload.encode("utf-8")).hexdigest()


@dataclass(frozen=True, slots=True)
class Question:
    """A question about the corpus.

    Attributes:
        golden_answers: accepted answers, best first; empty for questions without an answer.
        document_ids: gold documents; empty when the corpus does not answer the question.
        evidence: gold evidence text, or None where the corpus brings none.
        split: one of `SPLITS`, or "" before splits are assigned.
        question_type: one of `QUESTION_TYPES`.
        language: "en" or "ko".
        fact_id: questions that ask for the same fact share it (paraphrases), so that
            splits never separate them; "" where unknown.
        metadata: whatever else the source gave (HotpotQA's supporting facts, for instance).
    """

    id: str
    question: str
    golden_answers: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()
    evidence: str | None = None
    split: str = ""
    question_type: str = "single"
    language: str = "en"
    fact_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents and the questions about them, as read from a source.

    Attributes:
        name: short name for titles and tags.
        documents: in source order; ids are unique.
        questions: every `document_ids` entry names a document above.
        notes: one line for each thing a reader should know (what was left out and why).
    """

    name: str
    documents: tuple[Document, ...]
    questions: tuple[Question, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvidenceTarget:
    """The text that the model should write for a query.

    Attributes:
        id: question id, or an id made from document and sentence for self-study queries.
        query: what is asked.
        document_ids: the documents that hold the evidence.
        evidence: the target text.
        method: "gold", "answer_sentence", "self_study" or "llm".
        split: split of the question; self-study queries are "train".
    """

    id: str
    query: str
    document_ids: tuple[str, ...]
    evidence: str
    method: str
    split: str
