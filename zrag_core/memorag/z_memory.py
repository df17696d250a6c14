"""The memory Z as MemoRAG's memory model."""

from __future__ import annotations

from collections.abc import Sequence

from zrag_core.corpus.types import Question
from zrag_core.evidence import EvidenceSystem
from zrag_core.memorag.clue_memory import Clues, Draft
from zrag_core.memorag.clue_parser import tidy_clues


class ZMemory:
    """Drafts and clues from Z: what the model writes freely from its slots, one line for each span it found.

    The model has learnt to write evidence, not to follow instructions, so nothing is asked of it a second time:

    - The draft is the first line, from the span that is most probable by Z alone.
    - The first clue is the question with the draft behind it. It is the surrogate question: it names what the question
      left open, which is also how the model itself takes the second step of a two-hop question.
    - The other clues are the further lines: text spans as the corpus words them, as far as Z remembers. They look for
      what else the question may be about where the draft is wrong, and for the second document of two-hop questions.

    Args:
        system: decodes freely, for instance a `MemorySystem` with `free=True`.
    """

    name = "z"

    def __init__(self, system: EvidenceSystem):
        self._system = system
        self.figures: dict[str, float | None] = {}  # nothing is made
        self._remembered: dict[str, tuple[str, ...]] = {}

    def draft(self, questions: Sequence[Question]) -> list[Draft]:
        """The best line of each question; empty where the memory refuses, as it would be a guess.

        Raises:
            ValueError: the system does not decode freely.
        """
        # Kept for the clues of the same questions, which would otherwise be decoded twice.
        self._remembered = self._recall(questions)
        return [Draft(next(iter(self._remembered[question.question]), "")) for question in questions]

    def clues(self, questions: Sequence[Question], drafts: Sequence[Draft]) -> list[Clues]:
        """The question with its draft, and the further lines.

        Raises:
            ValueError: the system does not decode freely.
        """
        missing = [question for question in questions if question.question not in self._remembered]
        remembered = self._remembered | self._recall(missing)
        return [
            Clues(_clues(question.question, draft.text, remembered[question.question]))
            for question, draft in zip(questions, drafts, strict=True)
        ]

    def _recall(self, questions: Sequence[Question]) -> dict[str, tuple[str, ...]]:
        """Lines by question text, best first."""
        recalled = {}
        for question, found in zip(questions, self._system.retrieve(questions), strict=True):
            if found.text is None:
                raise ValueError(
                    f"system '{self._system.name}' does not decode freely, so it has nothing to draft with"
                )
            lines = found.text.splitlines() if found.answerable else []
            recalled[question.question] = tuple(line.strip() for line in lines if line.strip())
        return recalled


def _clues(question: str, draft: str, lines: Sequence[str]) -> tuple[str, ...]:
    further = [line for line in lines if line != draft]
    return tidy_clues([f"{question} {draft}", *further] if draft else further, question)
