"""HotpotQA JSON files in the distractor setting (arXiv 1809.09600)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from zrag_core.corpus.cleaning import clean, unique
from zrag_core.corpus.loaders.base import JsonLoader
from zrag_core.corpus.loaders.rows import BadField, Problems, expect, identifier, one_line, required, string
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.text import detect_language


class HotpotQaLoader(JsonLoader):
    """Reads HotpotQA as a corpus of two-hop questions.

    Paragraphs that several questions share are kept once (same title and text). The evidence is the supporting
    sentences joined by spaces; `metadata.supporting_facts` is [[document id, title, sentence number], ...].
    Questions without a supporting sentence in one of the paragraphs they need (as in the fullwiki setting) are left
    out; they are counted in the notes, like supporting facts that name a sentence that does not exist.
    """

    def matches(self, data: Any) -> bool:
        """Whether parsed JSON is [{"supporting_facts": ..., "context": ...}]."""
        match data:
            case [{"supporting_facts": _, "context": _}, *_]:
                return True
        return False

    def parse(self, data: Any, name: str, source: str) -> Corpus:
        """Turn parsed questions, each with its paragraphs, into documents and questions."""
        problems = Problems()
        documents: dict[str, Document] = {}
        questions: list[Question] = []
        counts: Counter[str] = Counter()
        rows = data if isinstance(data, list) else []
        if not rows:
            problems.add(source, 'no HotpotQA data: the file must be a list of {"_id", "question", "context", ...}')
        for position, row in enumerate(rows):
            try:
                context = _context(expect(row, dict, "the question"), counts)
                question = _question(row, context, counts)
            except BadField as problem:
                problems.add(f"{source}: [{position}]", str(problem))
                continue
            documents.update({document.id: document for document, _ in context.values()})
            if question.document_ids:
                questions.append(question)
            else:
                counts["questions left out: a paragraph they need is not in their context"] += 1
        problems.raise_if_any(source)
        notes = tuple(f"{count} {what}" for what, count in counts.items())
        return Corpus(name, tuple(documents.values()), tuple(questions), notes)


def _context(row: Mapping[str, Any], counts: Counter[str]) -> dict[str, tuple[Document, list[str]]]:
    """Map each title of a question's context to its document and sentences."""
    context: dict[str, tuple[Document, list[str]]] = {}
    for position, paragraph in enumerate(expect(row.get("context"), list, "context")):
        field = f"context[{position}]"
        match paragraph:
            case [str() as raw_title, [*raw_sentences]]:
                title = one_line(raw_title, f"{field} title")
                sentences = [string(sentence, f"{field} sentence") for sentence in raw_sentences]
            case _:
                raise BadField(f"{field} must be [title, [sentences]]")
        text = clean(_joined(raw_sentences)).strip()
        if text:
            digest = hashlib.sha256(f"{title}\x1f{text}".encode()).hexdigest()[:12]
            document_id = f"hotpot-{digest}"
            context[title] = (Document(document_id, title, text, source_id=document_id), sentences)
        else:
            counts["paragraphs left out: they are empty"] += 1
    return context


def _joined(sentences: Sequence[str]) -> str:
    """Sentences normally bring their own leading space; where neither side has one it is added."""
    text = ""
    for sentence in sentences:
        gap = "" if not text or text[-1].isspace() or sentence[:1].isspace() else " "
        text += gap + sentence
    return text


def _question(
    row: Mapping[str, Any], context: Mapping[str, tuple[Document, list[str]]], counts: Counter[str]
) -> Question:
    question_id, text, answer = identifier(row, "_id"), required(row, "question"), required(row, "answer")
    needed: set[str] = set()
    facts: list[list[Any]] = []
    sentences: list[str] = []
    for position, fact in enumerate(expect(row.get("supporting_facts"), list, "supporting_facts")):
        match fact:
            case [str() as raw_title, int() as number]:
                title = one_line(raw_title, f"supporting_facts[{position}] title")
            case _:
                raise BadField(f"supporting_facts[{position}] must be [title, sentence number]")
        needed.add(title)
        document, known = context.get(title, (None, []))
        if document is not None and 0 <= number < len(known) and known[number]:
            facts.append([document.id, title, number])
            sentences.append(known[number])
        elif document is not None:
            counts["supporting facts ignored: their paragraph has no such sentence"] += 1
    supported = bool(facts) and {title for _, title, _ in facts} == needed
    return Question(
        id=question_id,
        question=text,
        golden_answers=(answer,),
        document_ids=unique(document_id for document_id, _, _ in facts) if supported else (),
        evidence=" ".join(sentences) if supported else None,
        question_type="two_hop",
        language=detect_language(text),
        metadata={"type": row.get("type"), "level": row.get("level"), "supporting_facts": facts},
    )
