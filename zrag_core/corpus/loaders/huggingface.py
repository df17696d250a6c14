"""Hugging Face datasets, by name or local path, through the `datasets` library."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from zrag_core.corpus.loaders.base import CorpusLoader, Source
from zrag_core.corpus.loaders.rows import (
    QUESTION_IDS,
    BadField,
    Problems,
    expect,
    one_line,
    required,
    string,
    strings,
)
from zrag_core.corpus.loaders.squad import evidence_at, slugify
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.errors import CorpusError
from zrag_core.settings import HuggingFaceSettings
from zrag_core.text import detect_language

_DATASET_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_FILE_SUFFIXES = (".json", ".jsonl", ".gz", ".parquet", ".csv", ".zip", ".md", ".txt")


class HubLoader(CorpusLoader):
    """Reads one split of a dataset, its columns mapped to documents and questions.

    Rows that repeat a passage (one row per question) share one document, whose id is made from title and text.
    Answers are SQuAD's {"text", "answer_start"}, a list or a string; a row whose answers are empty is an
    unanswerable question. Question ids come from a column `id` (or `guid`, `_id` and the like) where its values differ,
    else from row numbers.
    """

    def detects(self, source: Source) -> bool:
        """Whether nothing lies at the location, and it can be the name of a dataset."""
        return not source.path.exists() and names_dataset(source.location)

    def remote(self, source: Source) -> bool:
        """Whether the location can be the name of a dataset, or is a folder whose files the hub's library may know."""
        return (source.path.is_dir() and any(source.path.iterdir())) or self.detects(source)

    def is_path(self, source: Source) -> bool:
        """Never: a dataset is known by its name, be it that of a folder."""
        return False

    def load(self, source: Source) -> Corpus:
        """Load the split and map its rows."""
        name, settings = source.location, source.settings.huggingface
        rows = _load(name, settings)
        columns = _columns(name, settings, rows.column_names)
        ids = _question_ids(rows, columns)
        problems = Problems()
        documents: dict[str, Document] = {}
        questions: list[Question] = []
        for number, row in enumerate(rows):
            try:
                document = _document(row, columns)
                question = _question(row, columns, ids[number], document) if "question" in columns else None
            except BadField as problem:
                problems.add(f"{name} [{settings.split}]: row {number}", str(problem))
                continue
            documents[document.id] = document
            if question is not None:
                questions.append(question)
        problems.raise_if_any(name)
        if not documents:
            raise CorpusError(f"split '{settings.split}' holds no rows", where=name, remedy="set huggingface.split")
        return Corpus(self.name(source), tuple(documents.values()), tuple(questions), _notes(settings, columns))


def names_dataset(location: str) -> bool:
    """Whether a location where nothing exists can be the name of a Hugging Face dataset ("squad", "KorQuAD/v1").

    Anything else is a path: absolute, starting with "." or "~", of several folders, or with a file's ending.
    """
    return bool(_DATASET_NAME.fullmatch(location)) and not location.endswith(_FILE_SUFFIXES)


def _load(name: str, settings: HuggingFaceSettings) -> Any:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        return load_dataset(name, settings.subset, split=settings.split)
    except (OSError, ValueError, DatasetsError) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(
            f"the dataset (subset {settings.subset or 'default'}, split {settings.split}) cannot be loaded: {reason}",
            where=f"Hugging Face dataset '{name}'",
            remedy="check corpus.location, corpus.huggingface and the network",
        ) from error


def _columns(name: str, settings: HuggingFaceSettings, present: Sequence[str]) -> dict[str, str]:
    """Map the roles that this dataset has to column names.

    A column that is only a default may be missing; one that somebody named may not.
    """
    mapping: dict[str, str] = {}
    for role in ("text", "title", "question", "answers"):
        column = getattr(settings, role)
        if column in present:
            mapping[role] = column
        elif role == "text" or (column is not None and role in settings.model_fields_set):
            raise CorpusError(
                f"no column '{column}'; the dataset has {', '.join(present)}",
                where=f"Hugging Face dataset '{name}'",
                remedy=f"set corpus.huggingface.{role}",
            )
    return mapping


def _notes(settings: HuggingFaceSettings, columns: Mapping[str, str]) -> tuple[str, ...]:
    named = {role: getattr(settings, role) for role in ("title", "question", "answers")}
    return tuple(
        f"no column '{column}' for the {role}" for role, column in named.items() if column and role not in columns
    )


def _question_ids(rows: Any, columns: Mapping[str, str]) -> list[str]:
    named = [name for name in QUESTION_IDS if name in rows.column_names]
    if "question" in columns and named:
        ids = [str(value) for value in rows[named[0]]]
        if len(set(ids)) == len(ids):
            return ids
    return [f"row-{number:06d}" for number in range(len(rows))]


def _document(row: Mapping[str, Any], columns: Mapping[str, str]) -> Document:
    text = string(row[columns["text"]], columns["text"])
    if not text:
        raise BadField(f"{columns['text']} is empty")
    raw_title = row[columns["title"]] if "title" in columns else None
    title = "" if raw_title is None else one_line(raw_title, columns["title"])
    digest = hashlib.sha256(f"{title}\x1f{text}".encode()).hexdigest()[:12]
    document_id = f"{slugify(title) or 'doc'}-{digest}"
    return Document(document_id, title, text, source_id=document_id)


def _question(row: Mapping[str, Any], columns: Mapping[str, str], question_id: str, document: Document) -> Question:
    text = required(row, columns["question"])
    language = detect_language(text)
    if "answers" not in columns:
        return Question(question_id, text, document_ids=(document.id,), language=language)
    answers, places = _answers(row[columns["answers"]], columns["answers"])
    if not answers:
        return Question(question_id, text, language=language, metadata={"about_document": document.id})
    evidence = evidence_at(row[columns["text"]], places)
    return Question(question_id, text, answers, (document.id,), evidence, language=language)


def _answers(value: Any, field: str) -> tuple[tuple[str, ...], list[tuple[str, Any]]]:
    """Return the answers, and (raw text, offset) pairs where the dataset says where they stand."""
    match value:
        case None:
            return (), []
        case str():
            return strings([value] if value.strip() else [], field), []
        case {"text": texts}:
            starts = value.get("answer_start") or []
            return strings(texts, field), list(zip(texts, starts, strict=False))
    return strings(expect(value, list, field), field), []
