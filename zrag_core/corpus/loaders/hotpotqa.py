"""HotpotQA JSON files in the distractor setting (arXiv 1809.09600)."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from zrag_core.corpus.cleaning import clean, unique
from zrag_core.corpus.loaders.base import JsonLoader
from zrag_core.corpus.loaders.rows import BadField, Problems, expect, identifier, one_line, required, string
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.text import detect_language, is_blank

_IDS = ("_id", "id", "qid")
_Context = dict[str, list[tuple[Document, list[str]]]]  # (document, its sentences) of every paragraph, by title


class HotpotQaLoader(JsonLoader):
    """Reads HotpotQA as a corpus of two-hop questions.

    Lists of pairs may also be two lists side by side, as on the Hugging Face hub. Paragraphs that several questions
    share are kept once (same title and text); a supporting fact whose title several paragraphs of a question have is
    in the first of them that has such a sentence. The evidence is the supporting
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
            documents.update({document.id: document for group in context.values() for document, _ in group})
            if question.document_ids:
                questions.append(question)
            else:
                counts["questions left out: a paragraph they need is not in their context"] += 1
        problems.raise_if_any(source)
        notes = tuple(f"{count} {what}" for what, count in counts.items())
        return Corpus(name, tuple(documents.values()), tuple(questions), notes)


def _context(row: Mapping[str, Any], counts: Counter[str]) -> _Context:
    """The paragraphs of a question, by title."""
    context: _Context = defaultdict(list)
    given = _pairs(row.get("context"), "title", "sentences")
    for position, paragraph in enumerate(expect(given, list, "context")):
        field = f"context[{position}]"
        match paragraph:
            case [str() as raw_title, [*raw_sentences]]:
                title = one_line(raw_title, f"{field} title")
                sentences = [string(sentence, f"{field} sentence") for sentence in raw_sentences]
            case _:
                raise BadField(f"{field} must be [title, [sentences]]")
        text = clean(_joined(raw_sentences)).strip()
        if not is_blank(text):
            digest = hashlib.sha256(f"{title}\x1f{text}".encode()).hexdigest()[:12]
            document_id = f"hotpot-{digest}"
            context[title].append((Document(document_id, title, text, source_id=document_id), sentences))
        else:
            counts["paragraphs left out: they are empty"] += 1
    return context


def _pairs(value: Any, first: str, second: str) -> Any:
    """The rows that two lists side by side stand for, which is how the Hugging Face hub keeps lists of pairs."""
    match value:
        case dict() if isinstance(value.get(first), list) and isinstance(value.get(second), list):
            return [list(pair) for pair in zip(value[first], value[second], strict=False)]
    return value


def _joined(sentences: Sequence[str]) -> str:
    """Sentences normally bring their own leading space; where neither side has one it is added."""
    text = ""
    for sentence in sentences:
        gap = "" if not text or text[-1].isspace() or sentence[:1].isspace() else " "
        text += gap + sentence
    return text


def _question(row: Mapping[str, Any], context: _Context, counts: Counter[str]) -> Question:
    question_id, text, answer = identifier(row, _IDS), required(row, "question"), required(row, "answer")
    needed: set[str] = set()
    facts: list[list[Any]] = []
    sentences: list[str] = []
    given = _pairs(row.get("supporting_facts"), "title", "sent_id")
    for position, fact in enumerate(expect(given, list, "supporting_facts")):
        match fact:
            case [str() as raw_title, int() as number]:
                title = one_line(raw_title, f"supporting_facts[{position}] title")
            case _:
                raise BadField(f"supporting_facts[{position}] must be [title, sentence number]")
        needed.add(title)
        paragraphs = context.get(title, [])
        found = next((p for p in paragraphs if 0 <= number < len(p[1]) and p[1][number]), None)
        if found is not None:
            facts.append([found[0].id, title, number])
            sentences.append(found[1][number])
        elif paragraphs:
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
