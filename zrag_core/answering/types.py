"""Input and output of an answering model, and the interface of every reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Messages = list[dict[str, str]]
"""Chat messages: `{"role": "system" | "user", "content": text}`."""

Progress = Callable[[int, int, float], None]
"""Called with (questions done, questions in all, US dollars spent so far)."""


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """One question to answer from one system's evidence.

    Attributes:
        system: name of the system that the evidence comes from.
        evidence: may be empty (the system refused, or there is none by design).
        language: "en" or "ko"; decides the wording of the prompt.
        closed_book: True asks the model for what it knows by itself.
    """

    question_id: str
    system: str
    question: str
    evidence: str
    language: str = "en"
    closed_book: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: a row of the table `answers`.

    Attributes:
        reader: "openai", "local" or "offline".
        answer: empty where `error` says why.
        cost_usd: what this answer cost now (0 when cached); None where the price is unknown.
        latency_ms: wall time from first attempt to answer, waiting for retries included; 0 when cached.
        cached: nothing was sent for this answer.
        error: one line, or None.
    """

    question_id: str
    system: str
    reader: str
    model: str
    answer: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    latency_ms: float
    cached: bool
    prompt_hash: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """Chat messages for a model, whatever they ask for.

    Attributes:
        labels: what the prompt is about ("purpose", "question_id", "system"), for observers; never sent, and no
            part of the prompt hash.
    """

    messages: Messages
    max_tokens: int
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's reply to a `Prompt`; the fields mean what they mean in `Answer`."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    latency_ms: float
    cached: bool
    prompt_hash: str
    error: str | None = None

    def call(self) -> dict[str, Any]:
        """The fields beside the text, which rows about the text have too."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "text"}


CallObserver = Callable[[Prompt, Completion], None]
"""Called with each prompt and its completion as soon as it is there; must return at once and never raise."""


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """The most that a run will cost, estimated before it starts with UTF-8 bytes / 4 as tokens.

    Attributes:
        requests: prompts given.
        to_send: prompts that are neither cached nor repeated.
        prompt_tokens: estimated tokens of the prompts to send.
        completion_tokens: tokens if every answer is as long as allowed.
        cost_usd: None where the model's price is unknown.
        note: where the price comes from, or why there is none.
    """

    model: str
    requests: int
    to_send: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    note: str

    def __str__(self) -> str:
        cost = "unknown" if self.cost_usd is None else f"at most {self.cost_usd:.4f} USD"
        return (
            f"estimate for {self.model}: {cost}; {self.to_send} of {self.requests} prompts to send, "
            f"about {self.prompt_tokens} prompt tokens, up to {self.completion_tokens} answer tokens ({self.note})"
        )


class Reader(Protocol):
    """Turns questions and evidence into answers; it may be a `StreamingReader` besides."""

    name: str
    model: str

    def answer(self, requests: Sequence[AnswerRequest], progress: Progress | None = None) -> list[Answer]:
        """Return one `Answer` for each request, in order.

        Raises:
            AnsweringError: nothing can be answered at all (wrong key, unreachable server, unknown price).
        """
        ...

    def estimate(self, requests: Sequence[AnswerRequest]) -> CostEstimate:
        """Say what `answer` would cost at most; sends nothing."""
        ...


class Completer(Protocol):
    """Sends arbitrary prompts to a model."""

    name: str
    model: str

    def complete(self, prompts: Sequence[Prompt], progress: Progress | None = None) -> list[Completion]:
        """Return one `Completion` for each prompt, in order."""
        ...

    def forget(self, completion: Completion) -> None:
        """Do not hand over this completion again: it was of no use, and asking once more may help."""
        ...

    def estimate_prompts(self, prompts: Sequence[Prompt]) -> CostEstimate:
        """Say what `complete` would cost at most; sends nothing."""
        ...
