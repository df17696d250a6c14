"""The native format: `corpus.jsonl` and `questions.jsonl`, with FlashRAG's names (arXiv 2405.13576)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zrag_core.corpus.loaders.base import CorpusLoader, Source
from zrag_core.corpus.loaders.rows import (
    DOCUMENT_IDS,
    QUESTION_IDS,
    BadField,
    Problems,
    expect,
    identifier,
    identifiers,
    one_line,
    read_jsonl,
    required,
    string,
    strings,
)
from zrag_core.corpus.types import QUESTION_TYPES, SPLITS, Corpus, Document, Question
from zrag_core.errors import CorpusError
from zrag_core.sentences import split_sentences
from zrag_core.text import detect_language

_SHOWN_FILES = 5
_MULTI_HOP = ("bridge", "comparison")  # HotpotQA's kinds of questions, as FlashRAG keeps them


class NativeLoader(CorpusLoader):
    """Reads a folder that holds `corpus.jsonl` and, usually, `questions.jsonl` (.gz too).

    Documents are rows `{"id", "title", "text"}` or `{"id", "contents"}` (title, line end, text), where the id may be
    called `_id` or `doc_id`, as in BEIR; questions are rows `{"id", "question", "golden_answers"}` with optional
    `doc_ids`, `evidence` and `metadata`, of which `type`, `question_type`, `split` and `fact_id` are understood and
    everything is kept. Without `evidence`, the sentences that `metadata.supporting_facts` ([document id, title,
    sentence number] each) names are the evidence.
    """

    def detects(self, source: Source) -> bool:
        """Whether the source is a folder with a corpus file."""
        return source.path.is_dir() and find_file(source.path, "corpus.jsonl") is not None

    def files(self, source: Source) -> list[Path]:
        """The corpus file, and that of the questions."""
        corpus, questions = find_file(source.path, "corpus.jsonl"), find_file(source.path, "questions.jsonl")
        return [path for path in (corpus, questions) if path] if corpus else super().files(source)

    def load(self, source: Source) -> Corpus:
        """Read both files."""
        folder = source.path
        if not folder.is_dir():
            raise CorpusError("not a folder", where=source.location, remedy="name the folder that holds corpus.jsonl")
        corpus_file = find_file(folder, "corpus.jsonl")
        if corpus_file is None:
            raise CorpusError(
                "no corpus.jsonl (or corpus.jsonl.gz) in this folder",
                where=str(folder),
                remedy='put one there with a row {"id", "title", "text"} for each document',
            )
        problems = Problems()
        documents, known = read_rows(corpus_file, problems)
        questions_file = find_file(folder, "questions.jsonl")
        notes = _others(folder, (corpus_file, questions_file))
        questions: list[Question] = []
        if questions_file is None:
            notes = (f"no questions.jsonl in {folder}", *notes)
        else:
            questions = _read_questions(questions_file, known, problems)
            texts = {document.id: document.text for document in documents}
            questions = [_with_supporting_facts(question, texts) for question in questions]
        problems.raise_if_any(str(folder))
        return Corpus(self.name(source), tuple(documents), tuple(questions), notes)


def find_file(folder: Path, name: str) -> Path | None:
    """Find `name` or `name`.gz in a folder.

    Raises:
        CorpusError: both are there, so which one is meant is unclear.
    """
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    if len(found) > 1:
        raise CorpusError(f"both {name} and {name}.gz are there", where=str(folder), remedy="remove one of them")
    return found[0] if found else None


def _others(folder: Path, read: Sequence[Path | None]) -> tuple[str, ...]:
    """A note of what else lies in the folder, if anything does."""
    names = [f"{path.name}/" if path.is_dir() else path.name for path in sorted(folder.iterdir()) if path not in read]
    shown = [name for name in names if not name.startswith(".")]
    more = f" and {len(shown) - _SHOWN_FILES} more" if len(shown) > _SHOWN_FILES else ""
    return (f"left out: {', '.join(shown[:_SHOWN_FILES])}{more} beside corpus.jsonl",) if shown else ()


def read_rows(path: Path, problems: Problems) -> tuple[list[Document], set[str]]:
    """Return the good documents, and the ids of all rows: a question that names a bad row is not wrong itself."""
    documents: list[Document] = []
    lines: dict[str, int] = {}
    for number, row in read_jsonl(path, problems):
        where = f"{path}:{number}"
        try:
            document_id = _new_identifier(row, DOCUMENT_IDS, lines, number)
            title, text = _title_and_text(row)
        except BadField as problem:
            problems.add(where, str(problem))
        else:
            documents.append(Document(document_id, title, text, source_id=document_id))
    return documents, set(lines)


def _new_identifier(row: Mapping[str, Any], names: Sequence[str], lines: dict[str, int], number: int) -> str:
    value = identifier(row, names)
    if value in lines:
        raise BadField(f"id '{value}' is already used at line {lines[value]}")
    lines[value] = number
    return value


def _title_and_text(row: Mapping[str, Any]) -> tuple[str, str]:
    title = "" if row.get("title") is None else one_line(row["title"], "title")
    if row.get("text") is not None:
        text = string(row["text"], "text")
    elif row.get("contents") is not None:
        text = string(row["contents"], "contents")
        first, line_end, rest = text.partition("\n")
        if line_end:
            title, text = title or " ".join(first.split()), rest.strip()
    else:
        raise BadField("no text")
    if not text:
        raise BadField("text is empty")
    return title, text


def _read_questions(path: Path, known: set[str], problems: Problems) -> list[Question]:
    questions: list[Question] = []
    lines: dict[str, int] = {}
    for number, row in read_jsonl(path, problems):
        try:
            question = _question(row, _new_identifier(row, QUESTION_IDS, lines, number))
            missing = [document_id for document_id in question.document_ids if document_id not in known]
            if missing:
                raise BadField(f"doc_ids names '{missing[0]}', which is not in the corpus")
        except BadField as problem:
            problems.add(f"{path}:{number}", str(problem))
        else:
            questions.append(question)
    return questions


def _question(row: Mapping[str, Any], question_id: str) -> Question:
    text = required(row, "question")
    if row.get("golden_answers") is None:
        raise BadField("no golden_answers (use [] for a question without an answer)")
    answers = strings(row["golden_answers"], "golden_answers")
    document_ids = identifiers(row["doc_ids"], "doc_ids") if row.get("doc_ids") is not None else ()
    evidence = string(row["evidence"], "evidence") if row.get("evidence") is not None else ""
    metadata = expect(row["metadata"], dict, "metadata") if row.get("metadata") is not None else {}
    multi_hop = metadata.get("type") in _MULTI_HOP or len(document_ids) > 1
    return Question(
        id=question_id,
        question=text,
        golden_answers=answers,
        document_ids=document_ids,
        evidence=evidence or None,
        split=_choice(metadata, "split", SPLITS, ""),
        question_type=_choice(metadata, "question_type", QUESTION_TYPES, "two_hop" if multi_hop else "single"),
        language=detect_language(text),
        fact_id=one_line(metadata["fact_id"], "metadata.fact_id") if metadata.get("fact_id") is not None else "",
        metadata=metadata,
    )


def _choice(metadata: Mapping[str, Any], field: str, allowed: tuple[str, ...], default: str) -> str:
    value = metadata.get(field)
    if value is None:
        return default
    if value not in allowed:
        raise BadField(f"metadata.{field} is {value!r}, not one of {', '.join(allowed)}")
    return str(value)


def _with_supporting_facts(question: Question, texts: Mapping[str, str]) -> Question:
    facts = question.metadata.get("supporting_facts")
    if question.evidence is not None or not isinstance(facts, list):
        return question
    found: list[str] = []
    for fact in facts:
        match fact:
            case [str() as document_id, str(), int() as number] if document_id in texts and number >= 0:
                found += [sentence.text for sentence in split_sentences(texts[document_id])[number : number + 1]]
    return replace(question, evidence=" ".join(found)) if len(found) == len(facts) and found else question
