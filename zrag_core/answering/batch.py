"""Sending many prompts at once through the Batch API, at half the price and within a day.

A batch is submitted, waited for and collected. What was submitted is on record on disk until its
answers are in the cache, so a run that was killed takes up its batches again and pays for nothing twice.

Imports the `openai` package; import this module only where it is used.
Source: https://developers.openai.com/api/docs/guides/batch
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from openai.types import Batch
from openai.types.chat import ChatCompletion

from zrag_core.answering.batch_files import BatchLine, Submission, input_line, pending, split
from zrag_core.answering.batch_server import BatchServer
from zrag_core.answering.cache import AnswerCache, CachedAnswer
from zrag_core.answering.failures import MalformedReplyError, Waits, scrub
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.prices import worst_case_cost
from zrag_core.answering.requests import SPENDING_LIMIT, Endpoint, read_reply, request_body
from zrag_core.answering.results import RunResults, completion_of, failed
from zrag_core.answering.types import Prompt
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings

_LONGEST_POLL_S = 60.0
# What the limit still allows after a batch shrinks from one to the next, and each may take a day.
_ROUNDS = 10
_ENDED = frozenset({"completed", "expired", "cancelled", "failed"})
# For answers of an earlier run that this one does not ask for.
_UNKNOWN_PROMPT = Prompt([], 0)

log = logging.getLogger(__name__)


class BatchRun:
    """Submits prompts in batches and collects their answers; for one use.

    Args:
        endpoint: its price is that of the Batch API.
        ledger: holds the spending limit; what does not fit under it is sent in a later batch, if the
            one before turns out cheaper than its worst case.
        cache: every answer is committed to it before its batch is forgotten; in a folder beside its file stands a
            record of each batch that is not collected yet.
        results: where completions go.
        waits: between looks at a batch, and before retries.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: AnswerSettings,
        ledger: SpendingLedger,
        cache: AnswerCache,
        results: RunResults,
        waits: Waits,
    ):
        self._endpoint = endpoint
        self._settings = settings
        self._ledger = ledger
        self._cache = cache
        self._results = results
        self._folder = cache.path.with_name(f"{cache.path.stem}_batches")
        self._server = BatchServer(endpoint, settings, waits.retry_s)
        self._poll_s = waits.poll_s
        # Worst cases of what is not settled yet, by prompt hash.
        self._reserved: dict[str, float] = {}

    async def send(self, prompts: Mapping[str, Prompt]) -> None:
        """Have every prompt answered, by hash; batches of earlier runs that hold some are waited for, not repeated.

        Raises:
            AnsweringError: the server has no batches, refuses one, or cannot be reached. What was submitted goes on
                there, and the next run collects it.
        """
        try:
            submitted = await self._resume(prompts)
            sent = {key for submission in submitted for key in submission.worst_usd}
            left = {key: prompt for key, prompt in prompts.items() if key not in sent}
            for _ in range(_ROUNDS):
                chosen = self._reserve(left)
                lines = {key: input_line(key, self._body(left.pop(key))) for key in chosen}
                for part in split(lines):
                    submitted.append(await self._submit(part))
                if not submitted:
                    break
                await self._collect(submitted, prompts)
                submitted = []
        finally:
            # Something is left only where the run ends early: the server works on, and charges.
            for worst in self._reserved.values():
                self._ledger.lose(worst)
        for key in left:
            self._results.finish(key, failed(key, SPENDING_LIMIT))

    async def _resume(self, prompts: Mapping[str, Prompt]) -> list[Submission]:
        """Find earlier batches that hold some of `prompts`, and forget those whose answers are all here."""
        found = []
        for submission in pending(self._folder, self._endpoint.url):
            missing = {k: usd for k, usd in submission.worst_usd.items() if self._cache.get(k) is None}
            if not missing:
                submission.forget(self._folder)
                continue
            if not prompts.keys() & missing.keys():
                continue
            if submission.batch_id is None:
                batch = await self._server.find(submission.name)
                if batch is None:  # killed before the server had it
                    submission.forget(self._folder)
                    continue
                submission = replace(submission, batch_id=batch.id)
                submission.save(self._folder)
            for key, worst in missing.items():
                if key not in self._reserved:
                    self._ledger.commit(worst)
                    self._reserved[key] = worst
            log.info("taking up batch %s, submitted earlier", submission.batch_id)
            self._server.on_the_way += 1
            found.append(submission)
        return found

    def _reserve(self, prompts: Mapping[str, Prompt]) -> list[str]:
        """Reserve money for as many prompts as the limit allows and return their hashes."""
        chosen = []
        for key, prompt in prompts.items():
            worst = worst_case_cost(prompt, self._endpoint.price)
            if not self._ledger.try_reserve(worst):
                break
            self._reserved[key] = worst
            chosen.append(key)
        return chosen

    async def _submit(self, lines: Mapping[str, bytes]) -> Submission:
        name = secrets.token_hex(8)
        file_id = await self._server.upload(f"zrag-{name}.jsonl", b"".join(lines.values()))
        worst = {key: self._reserved[key] for key in lines}
        # On record before it is created: whenever this process dies, the next one can find out.
        submission = Submission(name, None, self._endpoint.url, time.time(), worst)
        submission.save(self._folder)
        batch = await self._server.create(file_id, name)
        submission = replace(submission, batch_id=batch.id)
        submission.save(self._folder)
        log.info("batch %s: %d requests submitted", batch.id, len(lines))
        self._server.on_the_way += 1
        return submission

    async def _collect(self, submissions: Sequence[Submission], prompts: Mapping[str, Prompt]) -> None:
        waiting, delay = list(submissions), self._poll_s
        while waiting:
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_POLL_S)
            under_way = 0
            for submission in list(waiting):
                batch = await self._server.look(str(submission.batch_id), submission.path(self._folder))
                if batch.status in _ENDED:
                    await self._read(submission, batch, prompts)
                    waiting.remove(submission)
                    self._server.on_the_way -= 1
                elif batch.request_counts:
                    under_way += batch.request_counts.completed or 0
            self._results.report(under_way)

    async def _read(self, submission: Submission, batch: Batch, prompts: Mapping[str, Prompt]) -> None:
        """Put the answers of a batch that has ended into the cache and the results, then forget the batch.

        Raises:
            AnsweringError: the server refused the batch as a whole, or its files cannot be read.
        """
        if batch.status == "failed":
            submission.forget(self._folder)
            for key in filter(self._reserved.__contains__, submission.worst_usd):
                self._ledger.settle(self._reserved.pop(key), 0.0)
            given = (batch.errors.data if batch.errors else None) or []
            reasons = "; ".join(error.message or error.code or "" for error in given[:3]) or "no reason given"
            raise AnsweringError(
                f"the server refused the batch: {scrub(reasons, self._endpoint.api_key)}",
                where=self._endpoint.url,
                remedy="check the model and the account's batch limits, or set answers.batch to false",
            )
        lines: dict[str, BatchLine] = {}
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id:
                lines |= {line.key: line for line in await self._server.download(file_id)}
        elapsed_ms = 1000.0 * max(0.0, time.time() - submission.submitted_at)
        outcomes: dict[str, CachedAnswer | str] = {}
        for key in filter(self._reserved.__contains__, submission.worst_usd):
            outcomes[key] = self._settle(key, lines.get(key), batch.status, prompts.get(key, _UNKNOWN_PROMPT))
        self._cache.put_all((key, kept) for key, kept in outcomes.items() if isinstance(kept, CachedAnswer))
        submission.forget(self._folder)
        for key, outcome in outcomes.items():
            if key not in prompts:
                continue
            if isinstance(outcome, CachedAnswer):
                self._results.finish(key, completion_of(key, outcome, cached=False, latency_ms=elapsed_ms))
            else:
                self._results.finish(key, failed(key, outcome))

    def _settle(self, key: str, line: BatchLine | None, status: str, prompt: Prompt) -> CachedAnswer | str:
        """Keep the books for one prompt and return its answer, or why there is none."""
        worst = self._reserved.pop(key)
        if line is not None and line.body is not None:
            try:
                reply = ChatCompletion.construct(**line.body)
                answer = read_reply(reply, self._settings.model, prompt, self._endpoint.price, worst)
            except MalformedReplyError as error:
                self._ledger.lose(worst)
                return f"malformed reply: {error}"
            self._ledger.settle(worst, answer.cost_usd)
            return answer
        if line is not None:
            self._ledger.settle(worst, 0.0)
            return scrub(line.error or "", self._endpoint.api_key)
        if status == "completed":
            self._ledger.lose(worst)
            return "no answer in the output of the batch"
        self._ledger.settle(worst, 0.0)
        return f"the batch was {status} before this question's turn"

    def _body(self, prompt: Prompt) -> dict[str, object]:
        return request_body(self._settings, self._endpoint, prompt)
