"""The results of a run over prompts, by prompt hash, with progress and observers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zrag_core.answering.cache import AnswerCache, CachedAnswer
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.thinking import strip_thinking
from zrag_core.answering.types import CallObserver, Completion, Progress, Prompt


class RunResults:
    """Completions of one run, in the order of its prompts; equal prompts share one result.

    Args:
        keys: the prompts' hashes, in order.
        prompts: as many as `keys`.
        ledger: says what was spent, for `progress`.
        progress: called after each result.
        observe: called once for each prompt with its result, repeated prompts included.
    """

    def __init__(
        self,
        keys: Sequence[str],
        prompts: Sequence[Prompt],
        ledger: SpendingLedger,
        *,
        progress: Progress | None = None,
        observe: CallObserver | None = None,
    ):
        self._keys = list(keys)
        self._ledger = ledger
        self._progress = progress
        self._observe = observe
        self._prompts: dict[str, list[Prompt]] = {}
        for key, prompt in zip(keys, prompts, strict=True):
            self._prompts.setdefault(key, []).append(prompt)
        self._results: dict[str, Completion] = {}
        self._done = 0

    @property
    def answered(self) -> int:
        """Number of different prompts that have an answer, cached ones included."""
        return sum(1 for done in self._results.values() if done.error is None)

    def take_cached(self, cache: AnswerCache | None) -> dict[str, Prompt]:
        """Finish what the cache holds and return the other prompts by hash, each once."""
        left: dict[str, Prompt] = {}
        for key, prompts in self._prompts.items():
            found = cache.get(key) if cache is not None else None
            if found is None:
                left[key] = prompts[0]
            else:
                self.finish(key, completion_of(key, found, cached=True))
        return left

    def finish(self, key: str, completion: Completion) -> None:
        """Set the result of all prompts with this hash."""
        self._results[key] = completion
        prompts = self._prompts[key]
        self._done += len(prompts)
        if self._observe:
            for i, prompt in enumerate(prompts):
                self._observe(prompt, _repeated(completion) if i else completion)
        self.report()

    def report(self, under_way: int = 0) -> None:
        """Tell `progress` how far the run is; `under_way` prompts are answered and not yet here."""
        if self._progress:
            self._progress(self._done + under_way, len(self._keys), self._ledger.spent_usd)

    def in_order(self) -> list[Completion]:
        """Results by prompt; a repeated prompt was paid for once, so its repetitions count as cached."""
        ordered: list[Completion] = []
        seen: set[str] = set()
        for key in self._keys:
            result = self._results[key]
            ordered.append(_repeated(result) if key in seen else result)
            seen.add(key)
        return ordered


def completion_of(key: str, answer: CachedAnswer, *, cached: bool, latency_ms: float = 0.0) -> Completion:
    """The result of a prompt that was answered, without the model's reasoning; an empty answer carries an error."""
    cost = 0.0 if cached else answer.cost_usd
    text = strip_thinking(answer.answer)
    # Kept and paid for like any other: asking again would be answered the same way.
    error = None if text else _no_text(answer)
    return Completion(
        text,
        answer.prompt_tokens,
        answer.completion_tokens,
        cost,
        latency_ms,
        cached,
        prompt_hash=key,
        error=error,
    )


def _no_text(answer: CachedAnswer) -> str:
    what = "nothing but its reasoning" if answer.answer else "no text"
    if answer.finish_reason == "length":
        return f"the model returned {what} within its token limit (finish_reason: length)"
    reason = f" (finish_reason: {answer.finish_reason})" if answer.finish_reason not in ("", "stop") else ""
    return f"the model returned {what}{reason}"


def failed(key: str, error: str) -> Completion:
    """The result of a prompt that was not answered."""
    return Completion("", 0, 0, 0.0, 0.0, False, prompt_hash=key, error=error)


def _repeated(result: Completion) -> Completion:
    return replace(result, cached=result.error is None, cost_usd=0.0, latency_ms=0.0)
