"""SQuAD 1.1 and 2.0 (arXiv 1606.05250, 1806.03822) and KorQuAD 1.0 (arXiv 1909.07005) JSON files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zrag_core.corpus.cleaning import clean, unique
from zrag_core.corpus.loaders.base import JsonLoader
from zrag_core.corpus.loaders.rows import (
    QUESTION_IDS,
    BadField,
    Problems,
    expect,
    identifier,
    one_line,
    required,
    string,
)
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.sentences import split_sentences
from zrag_core.text import detect_language


class SquadLoader(JsonLoader):
    """Reads SQuAD, KorQuAD and their near relatives: KLUE-MRC's `guid`, AI Hub's `question_id` and single answer, and
    the rows of the Hugging Face hub, each a question with its paragraph.

    Each paragraph is a document called `<title-slug>-000` and so on; the evidence of a question is the sentence
    that holds its answer. Questions marked `is_impossible` become unanswerable ones: no answers, no documents.
    """

    def matches(self, data: Any) -> bool:
        """Whether parsed JSON is {"data": [{"paragraphs": ...}]}, or rows as on the hub."""
        match data:
            case {"data": [{"paragraphs": _}, *_]}:
                return True
        return bool(_hub_rows(data))

    def parse(self, data: Any, name: str, source: str) -> Corpus:
        """Turn parsed articles into documents and questions."""
        problems = Problems()
        documents: list[Document] = []
        questions: list[Question] = []
        numbers: Counter[str] = Counter()
        misplaced = 0
        for where, title, paragraph in _paragraphs(data, source, problems):
            try:
                if not string(paragraph.get("context"), "context"):
                    raise BadField("context is empty")
                context = paragraph["context"]  # as it stands in the file: answer offsets count in it
                qas = expect(paragraph.get("qas", []), list, "qas")
            except BadField as problem:
                problems.add(where, str(problem))
                continue
            slug = slugify(title) or "untitled"
            document_id = f"{slug}-{numbers[slug]:03d}"
            numbers[slug] += 1
            documents.append(Document(document_id, title, clean(context).strip(), source_id=document_id))
            for position, qa in enumerate(qas):
                try:
                    question = _question(expect(qa, dict, "the question"), document_id, context)
                except BadField as problem:
                    problems.add(f"{where}.qas[{position}]", str(problem))
                else:
                    questions.append(question)
                    misplaced += bool(question.golden_answers) and question.evidence is None
        problems.raise_if_any(source)
        notes = (f"{misplaced} answers do not stand in their paragraph; their questions have no evidence",)
        return Corpus(name, tuple(documents), tuple(questions), notes if misplaced else ())


def slugify(title: str) -> str:
    """The words of a title joined by underscores, in their own script and case."""
    return "_".join("".join(ch if ch.isalnum() else " " for ch in title).split())


def _paragraphs(data: Any, source: str, problems: Problems) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (place, title, paragraph)."""
    if rows := _hub_rows(data):
        yield from _grouped(rows, source, problems)
        return
    articles = data.get("data") if isinstance(data, dict) else None
    if not isinstance(articles, list):
        problems.add(source, 'no SQuAD data: the file must be {"data": [{"title", "paragraphs"}]}')
        return
    for position, article in enumerate(articles):
        where = f"{source}: data[{position}]"
        try:
            names = expect(article, dict, "the article")
            title = one_line(names.get("title", names.get("doc_title", "")), "title").replace("_", " ")
            paragraphs = expect(article.get("paragraphs"), list, "paragraphs")
        except BadField as problem:
            problems.add(where, str(problem))
            continue
        for number, paragraph in enumerate(paragraphs):
            place = f"{where}.paragraphs[{number}]"
            if isinstance(paragraph, dict):
                yield place, title, paragraph
            else:
                problems.add(place, "the paragraph must be an object")


def _hub_rows(data: Any) -> list[Any]:
    """The rows {"title", "context", "question", "answers"} that a file holds; none where it is of another layout."""
    rows = data.get("data") if isinstance(data, dict) else data
    match rows:
        case [{"context": str(), "question": str()}, *_]:
            return list(rows)
    return []


def _grouped(rows: Sequence[Any], source: str, problems: Problems) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The paragraphs of rows as on the hub, each with all of its questions."""
    paragraphs: dict[tuple[str, str], tuple[str, list[Any]]] = {}
    for position, row in enumerate(rows):
        where = f"{source}: [{position}]"
        try:
            title = one_line(expect(row, dict, "the row").get("title") or "", "title").replace("_", " ")
            if not string(row.get("context"), "context"):
                raise BadField("context is empty")
        except BadField as problem:
            problems.add(where, str(problem))
        else:
            paragraphs.setdefault((title, row["context"]), (where, []))[1].append(row)
    for (title, context), (where, asked) in paragraphs.items():
        yield where, title, {"context": context, "qas": asked}


def _answers(given: Any) -> list[Any]:
    """Answers as a list of {"text", "answer_start"}; the hub has a list of each, AI Hub a single answer."""
    match given:
        case {"text": [*texts], "answer_start": [*starts]}:
            return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=False)]
        case dict():
            return [given]
    return list(expect(given, list, "answers"))


def _question(qa: Mapping[str, Any], document_id: str, context: str) -> Question:
    question_id, text = identifier(qa, QUESTION_IDS), required(qa, "question")
    language = detect_language(text)
    unanswerable = isinstance(qa.get("answers"), dict) and qa["answers"].get("text") == []
    if qa.get("is_impossible") is True or unanswerable:
        metadata = {"is_impossible": True, "about_document": document_id}
        return Question(question_id, text, language=language, metadata=metadata)
    answers = _answers(qa.get("answers"))
    if not answers:
        raise BadField("no answers (and is_impossible is not set)")
    places: list[tuple[str, Any]] = []
    for position, answer in enumerate(answers):
        answer_text = string(expect(answer, dict, f"answers[{position}]").get("text"), f"answers[{position}].text")
        if not answer_text:
            raise BadField(f"answers[{position}].text is empty")
        places.append((answer["text"], answer.get("answer_start")))
    return Question(
        id=question_id,
        question=text,
        golden_answers=unique(" ".join(clean(raw).split()) for raw, _ in places),
        document_ids=(document_id,),
        evidence=evidence_at(context, places),
        language=language,
    )


def evidence_at(context: str, places: Sequence[tuple[str, Any]]) -> str | None:
    """Return the sentence (or sentences) of a paragraph that hold the first answer that stands where it says.

    Args:
        context: the paragraph as it stands in the file, which offsets count in.
        places: (answer text, offset in characters) pairs; an offset that is wrong is mended by the nearest
            occurrence of the text.
    """
    for text, start in places:
        position = _nearest(context, text, start if isinstance(start, int) else 0)
        if position is None:
            continue
        end = position + len(text)
        held = [sentence for sentence in split_sentences(context) if sentence.start < end and sentence.end > position]
        if held:
            return clean(context[held[0].start : held[-1].end])
    return None


def _nearest(context: str, text: str, start: int) -> int | None:
    if start >= 0 and context.startswith(text, start):
        return start
    occurrences = (i for i in range(len(context)) if context.startswith(text, i))
    return min(occurrences, key=lambda i: abs(i - start), default=None)
