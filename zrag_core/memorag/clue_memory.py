"""What a memory model does for MemoRAG: it drafts an answer from memory and gives clues to look for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from zrag_core.answering.types import Completion
from zrag_core.corpus.types import Question


@dataclass(frozen=True, slots=True)
class Usage:
    """What asking a memory model took.

    Attributes:
        cost_usd: US dollars (0 for local models and cached answers); None where the price is unknown.
        prompt_tokens, completion_tokens: as the model's server or tokenizer counts them.
    """

    cost_usd: float | None = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @classmethod
    def of(cls, completion: Completion) -> Usage:
        """What one completion took."""
        return cls(completion.cost_usd, completion.prompt_tokens, completion.completion_tokens)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            None if self.cost_usd is None or other.cost_usd is None else self.cost_usd + other.cost_usd,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft of an answer, made from memory alone.

    Attributes:
        text: may be wrong; empty where the memory had nothing to say or `error` says why there is none.
        error: one line, or None.
    """

    text: str
    usage: Usage = Usage()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Clues:
    """What to look for: surrogate questions and text spans, best first, without duplicates and never the question.

    Attributes:
        lines: at most `clues.MOST_CLUES`; empty where there is neither a clue nor a draft.
        error: one line, or None.
    """

    lines: tuple[str, ...]
    usage: Usage = Usage()
    error: str | None = None


class ClueMemory(Protocol):
    """A model that has read the whole corpus, if only roughly. Both methods are batched over questions.

    Attributes:
        name: short, for tables.
        figures: what making the memory took, as metrics; a cost is None where the price is unknown.
    """

    name: str

    @property
    def figures(self) -> dict[str, float | None]:
        """Return what making the memory took."""
        ...

    def draft(self, questions: Sequence[Question]) -> list[Draft]:
        """Return a draft for each question, in order.

        Raises:
            AnsweringError: the model cannot be asked at all.
        """
        ...

    def clues(self, questions: Sequence[Question], drafts: Sequence[Draft]) -> list[Clues]:
        """Return the clues of each question, given its draft, in order.

        Raises:
            AnsweringError: the model cannot be asked at all.
        """
        ...
