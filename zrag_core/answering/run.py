"""One run over many prompts: bounded concurrency, retries, cache and spending limit.

Imports the `openai` package; import this module only where it is used.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from openai import AsyncOpenAI, OpenAIError
from openai.types.chat import ChatCompletion

from zrag_core.answering.cache import AnswerCache, CachedAnswer
from zrag_core.answering.failures import Failure, MalformedReplyError, Outlook, classify
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.prices import Price, Usage, actual_cost, prompt_tokens, worst_case_cost
from zrag_core.answering.types import Completion, Progress, Prompt
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings
from zrag_core.text import evidence_tokens

SPENDING_LIMIT = "spending limit"

_LONGEST_BACKOFF_S = 30.0
# Longer than this the run is better ended and started again: the cache makes that free.
_LONGEST_RETRY_AFTER_S = 120.0
# A server that fails this many questions one after the other will fail the rest too.
_FAILURES_IN_A_ROW = 10


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The server that a run talks to.

    Attributes:
        client: with its own retries switched off.
        url: for display, without credentials.
        price: None where it is unknown.
    """

    client: AsyncOpenAI
    url: str
    at_openai: bool
    api_key: str
    price: Price | None


class CompletionRun:
    """Workers that take prompts until there are none left or a failure ends the run; for one use.

    Args:
        ledger: holds the spending limit, over several runs where it is shared.
        cache: looked up first; every answer is committed to it before the next request leaves.
        backoff_s: wait before the first retry; doubles with each one.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: AnswerSettings,
        ledger: SpendingLedger,
        cache: AnswerCache | None,
        *,
        backoff_s: float,
        progress: Progress | None,
    ):
        self._endpoint = endpoint
        self._settings = settings
        self._ledger = ledger
        self._cache = cache
        self._backoff_s = backoff_s
        self._progress = progress
        self._copies: Counter[str] = Counter()
        self._results: dict[str, Completion] = {}
        self._done = 0
        self._failures_in_a_row = 0
        self._fatal: AnsweringError | None = None
        self._stopped = asyncio.Event()

    async def complete(self, keys: Sequence[str], prompts: Sequence[Prompt]) -> list[Completion]:
        """Return one `Completion` for each prompt, in order; equal keys are sent once.

        Raises:
            AnsweringError: the run ended early.
        """
        self._copies = Counter(keys)
        unique = dict(zip(keys, prompts, strict=True))
        to_send: dict[str, Prompt] = {}
        for key, prompt in unique.items():
            found = self._cache.get(key) if self._cache is not None else None
            if found is None:
                to_send[key] = prompt
            else:
                self._finish(key, _completion(key, found, cached=True))
        if to_send:
            await self._send(to_send)
        if self._fatal:
            raise self._fatal
        return self._in_order(keys)

    async def _send(self, prompts: dict[str, Prompt]) -> None:
        price = self._endpoint.price
        if price is None:
            raise AnsweringError(
                "no price is known for this model, so the spending limit could not be kept",
                where=f"answers.model '{self._settings.model}'",
                remedy="choose a model listed in zrag_core/answering/prices.yaml, or add its price there",
            )
        waiting = iter(prompts.items())
        # As many workers as requests may be in flight: each holds one, its retries included.
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._settings.concurrency, len(prompts))):
                group.create_task(self._work(waiting, price))

    async def _work(self, waiting: Iterator[tuple[str, Prompt]], price: Price) -> None:
        for key, prompt in waiting:
            if self._stopped.is_set():
                return
            try:
                completion = await self._answer(key, prompt, price)
            except AnsweringError as error:
                self._fatal = self._fatal or error
                self._stopped.set()
                return
            if completion is not None:
                self._finish(key, completion)

    async def _answer(self, key: str, prompt: Prompt, price: Price) -> Completion | None:
        """Send `prompt` until it is answered or given up; None when the run was stopped meanwhile."""
        began = time.monotonic()
        worst = worst_case_cost(prompt, price)
        attempts = self._settings.max_retries + 1
        for attempt in range(attempts):
            if not await self._ledger.reserve(worst):
                return _failed(key, SPENDING_LIMIT)
            if self._stopped.is_set():
                self._ledger.settle(worst, 0.0)
                return None
            outcome = await self._attempt(key, prompt, price, worst)
            if isinstance(outcome, CachedAnswer):
                self._failures_in_a_row = 0
                elapsed_ms = 1000.0 * (time.monotonic() - began)
                return replace(_completion(key, outcome, cached=False), latency_ms=elapsed_ms)
            if outcome.outlook is not Outlook.RETRY or attempt + 1 == attempts:
                return self._give_up(key, outcome, attempt + 1)
            if await self._stopped_within(self._delay(outcome, attempt)):
                return None
        raise AssertionError("unreachable: the last attempt returns")

    async def _attempt(self, key: str, prompt: Prompt, price: Price, worst: float) -> CachedAnswer | Failure:
        """Send `prompt` once, and keep the books and the cache."""
        # OpenAI's newer models know only the first name, most other servers only the second.
        limit = "max_completion_tokens" if self._endpoint.at_openai else "max_tokens"
        try:
            # The SDK's time-out bounds each read; this one bounds the whole request.
            async with asyncio.timeout(self._settings.timeout_s):
                reply = await self._endpoint.client.chat.completions.create(
                    model=self._settings.model,
                    messages=prompt.messages,
                    temperature=self._settings.temperature,
                    **{limit: prompt.max_tokens},
                )
            answer = _read(reply, self._settings.model, prompt, price, worst)
        except (OpenAIError, TimeoutError, json.JSONDecodeError, UnicodeDecodeError, MalformedReplyError) as error:
            failure = classify(error, self._endpoint.api_key)
            if failure.perhaps_billed:
                self._ledger.lose(worst)
            else:
                self._ledger.settle(worst, 0.0)
            return failure
        except BaseException:
            # Cancelled while in flight: the server may answer, and charge, all the same.
            self._ledger.lose(worst)
            raise
        self._ledger.settle(worst, answer.cost_usd)
        if self._cache is not None:
            self._cache.put(key, answer)
        return answer

    def _give_up(self, key: str, failure: Failure, attempts: int) -> Completion:
        """Return the failed question, or end the run where the others would fare no better.

        Raises:
            AnsweringError: the run ends.
        """
        tries = f" ({attempts} attempts)" if attempts > 1 else ""
        if failure.outlook is Outlook.STOP:
            raise self._end(failure.message, failure.remedy)
        if failure.unreachable:
            raise self._end(f"server cannot be reached: {failure.message}{tries}", "start it or check answers.base_url")
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= _FAILURES_IN_A_ROW:
            raise self._end(
                f"{self._failures_in_a_row} questions failed one after the other, the last with: {failure.message}",
                failure.remedy,
            )
        return _failed(key, failure.message + tries)

    def _delay(self, failure: Failure, attempt: int) -> float:
        asked = failure.retry_after_s or 0.0
        if asked > _LONGEST_RETRY_AFTER_S:
            raise self._end(f"{failure.message} (the server asks to wait {asked:.0f} s)", "run again later")
        backoff = min(_LONGEST_BACKOFF_S, self._backoff_s * 2.0**attempt)
        # Jitter, so that requests turned away together do not come back together.
        return asked + backoff * random.uniform(0.5, 1.0)

    def _end(self, what: str, remedy: str) -> AnsweringError:
        kept = sum(1 for done in self._results.values() if done.error is None)
        if self._cache is not None and kept:
            remedy += f" ({kept} answers so far are cached and will not be paid again)"
        return AnsweringError(what, where=self._endpoint.url, remedy=remedy)

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _finish(self, key: str, completion: Completion) -> None:
        self._results[key] = completion
        self._done += self._copies[key]
        if self._progress:
            self._progress(self._done, self._copies.total(), self._ledger.spent_usd)

    def _in_order(self, keys: Sequence[str]) -> list[Completion]:
        """Results by prompt; a repeated prompt was paid for once, so its repetitions count as cached."""
        ordered: list[Completion] = []
        seen: set[str] = set()
        for key in keys:
            result = self._results[key]
            if key in seen:
                result = replace(result, cached=result.error is None, cost_usd=0.0, latency_ms=0.0)
            seen.add(key)
            ordered.append(result)
        return ordered


def _read(reply: ChatCompletion, model: str, prompt: Prompt, price: Price, worst: float) -> CachedAnswer:
    """Take text, tokens and cost from a reply; where the server counts no tokens, the estimate and the worst case.

    Raises:
        MalformedReplyError: the reply is not a chat completion (the SDK checks nothing).
    """
    try:
        message = reply.choices[0].message
        text = (message.content or message.refusal or "").strip()
        if reply.usage is None:
            counted = Usage(prompt_tokens(prompt.messages), evidence_tokens(text))
            cost = worst
        else:
            details = reply.usage.prompt_tokens_details
            cached = (details.cached_tokens or 0) if details else 0
            counted = Usage(int(reply.usage.prompt_tokens), int(reply.usage.completion_tokens), int(cached))
            cost = actual_cost(counted, price)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise MalformedReplyError(f"not a chat completion ({type(error).__name__})") from None
    return CachedAnswer(text, counted.prompt_tokens, counted.completion_tokens, str(reply.model or model), cost)


def _completion(key: str, answer: CachedAnswer, *, cached: bool) -> Completion:
    cost = 0.0 if cached else answer.cost_usd
    # Kept and paid for like any other: asking again would be answered the same way.
    error = None if answer.answer else "the model returned no text"
    return Completion(
        answer.answer, answer.prompt_tokens, answer.completion_tokens, cost, 0.0, cached, prompt_hash=key, error=error
    )


def _failed(key: str, error: str) -> Completion:
    return Completion("", 0, 0, 0.0, 0.0, False, prompt_hash=key, error=error)
