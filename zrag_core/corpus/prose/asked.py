"""Reading the documents and questions that were written for training and calibrating skills."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from zrag_core.corpus.samples import hash_order, hash_unit
from zrag_core.corpus.types import Document
from zrag_core.sentences import split_sentences

_FOLDER = "zrag_core.corpus.prose.written"
_KOREAN = "zrag_core.corpus.prose.written_ko"
_CALIBRATION = 0.5  # of the texts are for calibrating; from their questions nothing is trained


@dataclass(frozen=True, slots=True)
class AskedSentence:
    """A question about a document, and its sentence that answers; "" where none does."""

    question: str
    document_id: str
    sentence: str


@dataclass(frozen=True, slots=True)
class WrittenQuestions:
    """Documents that were written with their questions, and questions about other prose.

    Attributes:
        documents: the documents that were written; not those of other prose.
        trained, calibrated: the questions; no text has questions in both.
    """

    documents: tuple[Document, ...]
    trained: tuple[AskedSentence, ...]
    calibrated: tuple[AskedSentence, ...]


def written_questions(prose: Iterable[Document], *, korean: bool = False) -> WrittenQuestions:
    """All of it.

    Args:
        prose: of the packages; questions about a sentence that their versions do not have are left out.
        korean: the Korean documents too, and calibration with them alone.
    """
    documents, asked = _documents(_FOLDER, "written")
    others, about_others = _documents(_KOREAN, "written-ko") if korean else ([], [])
    about = {(row["title"], row["sentence"]): row["question"] for row in _rows(_FOLDER, "questions")}
    titles = {title for title, _ in about}
    for document in prose:
        if document.title in titles:
            for span in split_sentences(document.text):
                question = about.pop((document.title, span.text), None)
                if question is not None:
                    asked.append(AskedSentence(question, document.id, span.text))
    kept = {item.document_id for item in asked if hash_unit(0, "calibration", item.document_id) < _CALIBRATION}
    trained = [item for item in asked if item.document_id not in kept]
    calibrated = [item for item in asked if item.document_id in kept]
    if korean:  # so few documents are halved exactly
        order = hash_order({item.document_id for item in about_others}, 0, "calibration")
        kept = set(order[: round(len(order) * _CALIBRATION)])
        trained += [item for item in about_others if item.document_id not in kept]
        calibrated = [item for item in about_others if item.document_id in kept]
    return WrittenQuestions((*documents, *others), tuple(trained), tuple(calibrated))


def everyday_questions() -> tuple[list[Document], list[AskedSentence]]:
    """The documents that were written, English and Korean, and the questions about them."""
    found = [_documents(_FOLDER, "written"), _documents(_KOREAN, "written-ko")]
    return [document for own, _ in found for document in own], [item for _, own in found for item in own]


def _documents(folder: str, name: str) -> tuple[list[Document], list[AskedSentence]]:
    documents: list[Document] = []
    asked: list[AskedSentence] = []
    # Behind those that came first, whose numbers decide what was trained on.
    for number, row in enumerate([*_rows(folder, "documents-"), *_rows(folder, "further-")]):
        document = Document(f"{name}-{number:03}", row["title"], row["text"])
        documents.append(document)
        sentences = [span.text for span in split_sentences(document.text)]
        for item in row["answerable"]:  # a table's header belongs to the sentence that is its first row
            sentence = next(own for own in sentences if item["evidence"] in own)
            asked.append(AskedSentence(item["question"], document.id, sentence))
        asked += [AskedSentence(question, document.id, "") for question in row["unanswerable"]]
    return documents, asked


def written_version() -> str:
    """Tells states of the English files apart, which skills are trained on."""
    files = sorted(_files(_FOLDER, ""), key=lambda item: item.name)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _files(folder: str, prefix: str) -> list[Traversable]:
    names = (item for item in resources.files(folder).iterdir() if item.name.endswith(".jsonl"))
    return [item for item in names if item.name.startswith(prefix)]


def _rows(folder: str, prefix: str) -> Iterator[dict[str, Any]]:
    for file in sorted(_files(folder, prefix), key=lambda item: item.name):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)
