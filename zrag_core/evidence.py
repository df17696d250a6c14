"""Evidence: what a system returns for a question, and its cut to a token budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from zrag_core.corpus.types import Question
from zrag_core.text import evidence_tokens, truncate_to_tokens


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of verbatim corpus text: characters `start` to `end` of a document's text.

    Attributes:
        reading: what is handed over in the place of `text`, where it says nothing by itself (a row of a table).
    """

    document_id: str
    start: int
    end: int
    text: str
    score: float
    reading: str = ""

    @property
    def shown(self) -> str:
        """What is handed over."""
        return self.reading or self.text


def without_repetition(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The segments, best first, without those that say nothing that another does not: what stands elsewhere word for
    word, and lines that lead into another one ("You need:" beside "You need: a key")."""
    first = {own.shown: own for own in reversed(segments)}
    return tuple(own for own in segments if own is first[own.shown] and not _leads_into_another(own, segments))


def _leads_into_another(own: Segment, segments: Sequence[Segment]) -> bool:
    if not own.shown.endswith((":", "\uff1a")):
        return False
    others = (other.shown for other in segments if other.document_id == own.document_id)
    return any(other != own.shown and other.startswith(own.shown) for other in others)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What a system found for one question, before any budget is applied.

    Attributes:
        document_ids: ranked, best first, without duplicates (at least ten where the corpus has them).
        document_scores: aligned with `document_ids`; comparable within one question only.
        segments: verbatim pieces, best first (sentences or passages); empty for free text.
        text: the system's own words where evidence is not a list of segments (free decoding).
        answerable: False when the system refuses.
        confidence: in [0, 1] where calibrated, else None.
        latency_ms: wall time spent on this question (a batch's time divided by its size).
    """

    question_id: str
    document_ids: tuple[str, ...] = ()
    document_scores: tuple[float, ...] = ()
    segments: tuple[Segment, ...] = ()
    text: str | None = None
    answerable: bool = True
    confidence: float | None = None
    latency_ms: float = 0.0


class EvidenceSystem(Protocol):
    """One complete way from questions to evidence."""

    name: str

    def retrieve(self, questions: Sequence[Question]) -> list[Retrieved]:
        """Return one `Retrieved` for each question, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence text within a budget, and the segments it is made of.

    Verbatim `segments` are cut like the text, and `document.text[s.start:s.end] == s.text` holds for each.
    """

    text: str
    segments: tuple[Segment, ...] = field(default_factory=tuple)

    @property
    def tokens(self) -> int:
        """Size in evidence tokens."""
        return evidence_tokens(self.text)


def fill_budget(retrieved: Retrieved, budget: int) -> Evidence:
    """Fill `budget` evidence tokens with the best segments (or the start of the free text).

    Segments are joined by line ends, best first; the one that no longer fits is cut at a word
    boundary. A refused question gets empty evidence.
    """
    if not retrieved.answerable:
        return Evidence("")
    if retrieved.text is not None:
        return Evidence(truncate_to_tokens(retrieved.text, budget))
    used: list[Segment] = []
    text = ""
    for segment in retrieved.segments:
        prefix = f"{text}\n" if text else ""
        candidate = truncate_to_tokens(prefix + segment.shown, budget)
        piece = candidate[len(prefix) :]
        if not piece:
            break
        verbatim = segment.shown == segment.text
        used.append(replace(segment, end=segment.start + len(piece), text=piece, reading="") if verbatim else segment)
        text = candidate
        if len(piece) < len(segment.shown):
            break
    return Evidence(text, tuple(used))


@runtime_checkable
class ArrangesEvidence(Protocol):
    """A system that shows its evidence in another order than it was chosen in."""

    def arrange(self, evidence: Evidence) -> Evidence:
        """Return the same segments in the order in which the answering model is to read them; the size stays."""
        ...


def evidence_within(system: EvidenceSystem, retrieved: Retrieved, budget: int) -> Evidence:
    """What `system` shows of `retrieved` within a budget: chosen and cut by rank, then in the system's own order."""
    evidence = fill_budget(retrieved, budget)
    return system.arrange(evidence) if isinstance(system, ArrangesEvidence) else evidence
