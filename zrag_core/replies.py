"""What a memory says to a question, and where it stands."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """Where a piece of the evidence stands: characters `start` to `end` of a document's text.

    Attributes:
        score: what ranked it; comparable within one question only.
        reading: what is handed over in the place of `text`, where that says nothing by itself (a row of a table).
    """

    document_id: str
    title: str
    start: int
    end: int
    text: str
    score: float
    reading: str = ""

    @property
    def shown(self) -> str:
        """What people read; the lines of a page or a file end elsewhere than theirs."""
        return self.reading or " ".join(self.text.split())


@dataclass(frozen=True, slots=True)
class RoutedDocument:
    """A document that the question was routed to.

    Attributes:
        score: its probability given the question, among all documents of the memory.
    """

    document_id: str
    title: str
    score: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What a memory says to one question.

    Attributes:
        answerable: False where the memory refuses, because it does not hold the answer.
        confidence: calibrated probability that the memory holds the answer; None where the checkpoint has none.
        answer: the reader's answer, or the refusal; empty where nobody answers, or the reader failed (see `error`).
        evidence: the text that was shown and answered from, within the budget; empty where refused.
        sources: the pieces that the evidence is made of, best first; none where it is the model's own words.
        verified: whether every sentence of the evidence stands in one of the routed documents; verbatim evidence does,
            the model's own words need not.
        unsupported: the sentences that stand in none.
        routing: ranked documents, best first (those that were read are ranked by what was found in them).
        nearest: where refused, the pieces that come nearest; as far as the memory can tell they do not answer.
        reader, model: who answered; empty where nobody did.
        error: why the question was not asked, or the reader gave no answer, on one line.
        latency_ms: wall time of routing, reading and answering.
        notes: what one has to know to judge the reply, a line each.
    """

    question: str
    answerable: bool
    confidence: float | None
    answer: str
    evidence: str
    sources: tuple[Source, ...]
    verified: bool
    unsupported: tuple[str, ...]
    routing: tuple[RoutedDocument, ...]
    reader: str
    model: str
    error: str | None
    latency_ms: float
    nearest: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The reply as plain values, for JSON."""
        return asdict(self)
