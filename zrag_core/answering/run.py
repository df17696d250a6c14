"""Sending prompts one by one: bounded concurrency, retries, cache and spending limit.

Imports the `openai` package; import this module only where it is used.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from openai import OpenAIError
from openai.types.chat import ChatCompletion

from zrag_core.answering.answer_stream import AnswerStream
from zrag_core.answering.cache import AnswerCache, CachedAnswer, GroupCommit
from zrag_core.answering.failures import Failure, MalformedReplyError, Outlook, Waits, classify, wait_s
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.prices import worst_case_cost
from zrag_core.answering.requests import SPENDING_LIMIT, Endpoint, read_reply, request_body
from zrag_core.answering.results import RunResults, completion_of, failed
from zrag_core.answering.streamed_reply import streamed_reply
from zrag_core.answering.types import Completion, Prompt
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings

# Longer than this the run is better ended and started again: the cache makes that free.
_LONGEST_RETRY_AFTER_S = 120.0
# A server that fails this many questions one after the other will fail the rest too.
_FAILURES_IN_A_ROW = 10
# Statuses by which a server says that it does not know a field of the request.
_NOT_UNDERSTOOD = (400, 422)


class CompletionRun:
    """Workers that take prompts until there are none left or a failure ends the run; for one use.

    Args:
        ledger: holds the spending limit, over several runs where it is shared.
        cache: every answer is committed to it before its worker sends the next request.
        results: where completions go.
        waits: before retries.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: AnswerSettings,
        ledger: SpendingLedger,
        cache: AnswerCache | None,
        results: RunResults,
        waits: Waits,
    ):
        self._endpoint = endpoint
        self._settings = settings
        self._ledger = ledger
        self._commits = None if cache is None else GroupCommit(cache)
        self._results = results
        self._waits = waits
        self._failures_in_a_row = 0
        self._fatal: AnsweringError | None = None
        self._stopped = asyncio.Event()
        self._stream: AnswerStream | None = None
        self._view: Callable[[str], str] = str
        self._no_streams = False

    async def send(self, prompts: Mapping[str, Prompt]) -> None:
        """Have every prompt answered, by hash.

        Raises:
            AnsweringError: the run ended early.
        """
        waiting = iter(prompts.items())
        # As many workers as requests may be in flight: each holds one, its retries included.
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._settings.concurrency, len(prompts))):
                group.create_task(self._work(waiting))
        if self._fatal:
            raise self._fatal

    async def send_streamed(self, key: str, prompt: Prompt, stream: AnswerStream, view: Callable[[str], str]) -> None:
        """Have one prompt answered, and `stream` show its text while it is written.

        Args:
            view: what of the text so far is shown.

        Raises:
            AnsweringError: it cannot be answered.
        """
        self._stream, self._view = stream, view
        completion = await self._answer(key, prompt)
        if self._no_streams:  # refused for that alone
            self._stream = None
            completion = await self._answer(key, prompt)
        if completion is not None:
            self._results.finish(key, completion)

    async def _work(self, waiting: Iterator[tuple[str, Prompt]]) -> None:
        for key, prompt in waiting:
            if self._stopped.is_set():
                return
            try:
                completion = await self._answer(key, prompt)
            except AnsweringError as error:
                self._fatal = self._fatal or error
                self._stopped.set()
                return
            if completion is not None:
                self._results.finish(key, completion)

    async def _answer(self, key: str, prompt: Prompt) -> Completion | None:
        """Send `prompt` until it is answered or given up; None when the run was stopped meanwhile."""
        began = time.monotonic()
        worst = worst_case_cost(prompt, self._endpoint.price)
        attempts = self._settings.max_retries + 1
        for attempt in range(attempts):
            if not await self._ledger.reserve(worst):
                return failed(key, SPENDING_LIMIT)
            if self._stopped.is_set():
                self._ledger.settle(worst, 0.0)
                return None
            outcome = await self._attempt(key, prompt, worst)
            if isinstance(outcome, CachedAnswer):
                self._failures_in_a_row = 0
                elapsed_ms = 1000.0 * (time.monotonic() - began)
                return completion_of(key, outcome, cached=False, latency_ms=elapsed_ms)
            if self._stream is not None and self._stream.text:
                # A second answer would go on where the first one ended.
                return failed(key, f"the answer broke off: {outcome.message}")
            if outcome.outlook is not Outlook.RETRY or attempt + 1 == attempts:
                return self._give_up(key, outcome, attempt + 1)
            if await self._stopped_within(self._delay(outcome, attempt)):
                return None
        raise AssertionError("unreachable: the last attempt returns")

    async def _attempt(self, key: str, prompt: Prompt, worst: float) -> CachedAnswer | Failure:
        """Send `prompt` once, and keep the books and the cache."""
        try:
            # The SDK's time-out bounds each read; this one bounds the whole request.
            async with asyncio.timeout(self._settings.timeout_s):
                reply = await self._reply(request_body(self._settings, self._endpoint, prompt))
            answer = read_reply(reply, self._settings.model, prompt, self._endpoint.price, worst)
        except (OpenAIError, TimeoutError, json.JSONDecodeError, UnicodeDecodeError, MalformedReplyError) as error:
            failure = classify(error, self._endpoint.api_key)
            self._ledger.refuse(worst, perhaps_billed=failure.perhaps_billed)
            self._no_streams = failure.status in _NOT_UNDERSTOOD and "stream" in failure.message.lower()
            return failure
        except BaseException:
            # Cancelled while in flight: the server may answer, and charge, all the same.
            self._ledger.lose(worst)
            raise
        self._ledger.settle(worst, answer.cost_usd)
        if self._commits is not None:
            await self._commits.put(key, answer)
        return answer

    async def _reply(self, body: dict[str, Any]) -> ChatCompletion:
        stream = self._stream
        if stream is not None:
            return await streamed_reply(self._endpoint.client, body, lambda text: stream.reach(self._view(text)))
        # What `chat.completions.create` does, without its pass over every message.
        return await self._endpoint.client.post("/chat/completions", body=body, cast_to=ChatCompletion)

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
        return failed(key, failure.message + tries)

    def _delay(self, failure: Failure, attempt: int) -> float:
        asked = failure.retry_after_s or 0.0
        if asked > _LONGEST_RETRY_AFTER_S:
            raise self._end(f"{failure.message} (the server asks to wait {asked:.0f} s)", "run again later")
        return wait_s(failure, attempt, self._waits.retry_s)

    def _end(self, what: str, remedy: str) -> AnsweringError:
        kept = self._results.answered
        if self._commits is not None and kept:
            remedy += f" ({kept} answers so far are cached and will not be paid again)"
        return AnsweringError(what, where=self._endpoint.url, remedy=remedy)

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return False
        return True
