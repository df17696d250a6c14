"""Evidence targets from questions that the answering model writes about a document.

A question is kept only if its evidence stands verbatim in the document and the question leads back
to that document (the round trip of Alberti et al. 2019, with routing in place of reading).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from zrag_core.answering.prompts import load_template
from zrag_core.answering.types import Completer, Progress, Prompt
from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.errors import AnsweringError
from zrag_core.text import detect_language, evidence_tokens, normalize, words

# Room for one line: the question, the JSON around it, and the copied sentence.
_TOKENS_PER_QUESTION = 200
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class WrittenQuestions:
    """Questions that were kept, and what became of the others.

    Attributes:
        targets: method "llm", split "train".
        rejected: number by reason: "request failed" (a document each), "not JSON", "no question or
            evidence", "evidence not in the document", "repeated question", "leads elsewhere".
        cost_usd: what the requests cost; None where the price is unknown.
        errors: one line for each document whose request failed.
    """

    targets: list[EvidenceTarget]
    rejected: Counter[str] = field(default_factory=Counter)
    cost_usd: float | None = 0.0
    errors: tuple[str, ...] = ()


def write_questions(
    completer: Completer,
    documents: Sequence[Document],
    per_document: int,
    *,
    route: Callable[[str], str | None],
    progress: Progress | None = None,
) -> WrittenQuestions:
    """Have the answering model write `per_document` questions about each document, and keep the sound ones.

    The prompt is in the document's language. Answers are cached and paid like any other.

    Args:
        completer: the answering model, for instance an `OpenAIReader`.
        route: the id of the document that a question leads to, or None.

    Raises:
        AnsweringError: the model cannot be asked at all, or no request succeeded.
    """
    prompts = [_prompt(document, per_document) for document in documents]
    completions = completer.complete(prompts, progress)
    targets: list[EvidenceTarget] = []
    rejected: Counter[str] = Counter()
    errors: list[str] = []
    asked: set[tuple[str, ...]] = set()
    for document, completion in zip(documents, completions, strict=True):
        if completion.error:
            rejected["request failed"] += 1
            errors.append(f"document '{document.id}': {completion.error}")
            continue
        for question, evidence, reason in _parse(completion.text, document):
            key = tuple(words(question))
            if not reason and key in asked:
                reason = "repeated question"
            if not reason and route(question) != document.id:
                reason = "leads elsewhere"
            if reason:
                rejected[reason] += 1
                continue
            asked.add(key)
            targets.append(_target(document, question, evidence))
    if documents and len(errors) == len(documents):
        raise AnsweringError(
            f"no document got questions: {errors[0]}",
            where=f"answering model {completer.model}",
            remedy="check the answers section, or set targets.llm_questions_per_document to 0",
        )
    costs = [completion.cost_usd for completion in completions]
    total = None if None in costs else sum(cost for cost in costs if cost is not None)
    return WrittenQuestions(targets, rejected, total, tuple(errors))


def _prompt(document: Document, per_document: int) -> Prompt:
    sections = load_template("questions", detect_language(document.text))
    values = {"title": document.title, "text": document.text, "count": str(per_document)}
    messages = [{"role": role, "content": sections[role].substitute(values)} for role in ("system", "user")]
    # A copied sentence can be as long as the document has room for.
    longest = per_document * min(_TOKENS_PER_QUESTION, 60 + 2 * evidence_tokens(document.text))
    return Prompt(messages, longest)


def _parse(text: str, document: Document) -> Iterator[tuple[str, str, str]]:
    """Yield (question, evidence as it stands in the document, reason for rejection or "") for each line of a reply.

    Empty lines and the fences that models put around JSON are no questions.
    """
    for line in text.splitlines():
        line = line.strip().rstrip(",")
        if not line or line.startswith("```") or line in ("[", "]"):
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            yield "", "", "not JSON"
            continue
        question, evidence = (row.get("question"), row.get("evidence")) if isinstance(row, dict) else (None, None)
        if not isinstance(question, str) or not isinstance(evidence, str) or not words(question) or not words(evidence):
            yield "", "", "no question or evidence"
            continue
        found = _find(normalize(evidence).strip(), document.text)
        yield normalize(question).strip(), found, "" if found else "evidence not in the document"


def _find(evidence: str, text: str) -> str:
    """The stretch of `text` that `evidence` copies, white space aside; "" where there is none."""
    pattern = r"\s+".join(re.escape(part) for part in _SPACE.split(evidence))
    match = re.search(pattern, text)
    return match.group() if match else ""


def _target(document: Document, question: str, evidence: str) -> EvidenceTarget:
    digest = hashlib.sha256(f"{document.id}\x1f{question}".encode()).hexdigest()[:12]
    return EvidenceTarget(
        id=f"llm-{document.id}-{digest}",
        query=question,
        document_ids=(document.id,),
        evidence=evidence,
        method="llm",
        split="train",
    )
