"""The systems `closed_book` (no evidence) and `gold_evidence` (the evidence target itself)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zrag_core.corpus.types import Document, EvidenceTarget, Question
from zrag_core.evidence import Retrieved, Segment
from zrag_core.sentences import split_sentences
from zrag_core.system_factory import SystemInputs
from zrag_core.systems import SystemSpec


class ClosedBookSystem:
    """No evidence: what the answering model knows by itself."""

    name = "closed_book"

    def retrieve(self, questions: Sequence[Question]) -> list[Retrieved]:
        """Return nothing for each question."""
        return [Retrieved(question.id) for question in questions]


class GoldEvidenceSystem:
    """The evidence target of each question: the ceiling of every other system."""

    name = "gold_evidence"

    def __init__(self, targets: Mapping[str, EvidenceTarget], documents: Sequence[Document]):
        """Keep targets by question id, and the documents in which their text is looked up."""
        self._targets = targets
        self._texts = {document.id: document.text for document in documents}

    def retrieve(self, questions: Sequence[Question]) -> list[Retrieved]:
        """Return the target of each question; a question without one is refused."""
        return [self._retrieve_one(question) for question in questions]

    def _retrieve_one(self, question: Question) -> Retrieved:
        target = self._targets.get(question.id)
        if target is None:
            return Retrieved(question.id, answerable=False)
        segments = self._locate(target)
        return Retrieved(
            question_id=question.id,
            document_ids=target.document_ids,
            document_scores=(1.0,) * len(target.document_ids),
            segments=segments,
            text=None if segments else target.evidence,
        )

    def _locate(self, target: EvidenceTarget) -> tuple[Segment, ...]:
        """Segments of the target's text: in one piece, else sentence by sentence, else none."""
        whole = self._find(target.evidence.strip(), target.document_ids)
        if whole:
            return (whole,)
        sentences = split_sentences(target.evidence)
        found = [self._find(sentence.text, target.document_ids) for sentence in sentences]
        return tuple(segment for segment in found if segment) if all(found) else ()

    def _find(self, text: str, document_ids: Sequence[str]) -> Segment | None:
        for document_id in document_ids:
            start = self._texts[document_id].find(text)
            if start >= 0:
                return Segment(document_id, start, start + len(text), text, 1.0)
        return None


def make_closed_book(_spec: SystemSpec, _inputs: SystemInputs) -> ClosedBookSystem:
    """No evidence."""
    return ClosedBookSystem()


def make_gold_evidence(_spec: SystemSpec, inputs: SystemInputs) -> GoldEvidenceSystem:
    """The targets of the questions."""
    return GoldEvidenceSystem({target.id: target for target in inputs.targets}, inputs.corpus.documents)
