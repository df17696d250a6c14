"""The calls that the Batch API is made of, each repeated until it succeeds or is hopeless.

Imports the `openai` package; import this module only where it is used.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from openai import OpenAIError
from openai.types import Batch

from zrag_core.answering.batch_files import CHAT_PATH, BatchLine, output_lines
from zrag_core.answering.failures import Failure, MalformedReplyError, Outlook, classify, wait_s
from zrag_core.answering.requests import Endpoint
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings

# Files of up to 200 MB take longer than one question does.
_TRANSFER_TIMEOUT_S = 900.0
# Batches looked through, newest first, for one whose creation was not confirmed.
_LISTED = 100
_MISSING = frozenset({404, 405, 501})
_NO_BATCH_API = ("this server has no Batch API", "set answers.batch to false, or check answers.base_url")
# Under this name the submission's own name goes into the batch's metadata.
_METADATA = "zrag_submission"

_Reply = TypeVar("_Reply")


class BatchServer:
    """A server's files and batches.

    Every method raises an AnsweringError when its call is hopeless.

    Args:
        settings: retries and time-outs.
        retry_s: wait before the first retry of a failed call; doubles with each one.

    Attributes:
        on_the_way: batches submitted and not collected, for the last words of a run that ends early.
    """

    def __init__(self, endpoint: Endpoint, settings: AnswerSettings, retry_s: float):
        self._endpoint = endpoint
        self._settings = settings
        self._retry_s = retry_s
        self.on_the_way = 0

    async def upload(self, name: str, content: bytes) -> str:
        """Upload an input file and return its id."""

        async def call() -> str:
            return _identified(await self._endpoint.client.files.create(file=(name, content), purpose="batch")).id

        return await self._call(call, timeout_s=_TRANSFER_TIMEOUT_S, missing=_NO_BATCH_API)

    async def create(self, file_id: str, name: str) -> Batch:
        """Create a batch once, however often the server's reply gets lost."""
        tried = False

        async def call() -> Batch:
            nonlocal tried
            # A reply that got lost may have been about a batch that was made.
            found = await self._listed(name) if tried else None
            tried = True
            return found or _identified(
                await self._endpoint.client.batches.create(
                    input_file_id=file_id, endpoint=CHAT_PATH, completion_window="24h", metadata={_METADATA: name}
                )
            )

        return await self._call(call, missing=_NO_BATCH_API)

    async def find(self, name: str) -> Batch | None:
        """The batch that was created under `name`, if it was."""
        return await self._call(lambda: self._listed(name))

    async def look(self, batch_id: str, record: Path) -> Batch:
        """The batch as it is now; `record` is the file that tells of it."""
        remedy = (
            f"use the key it was submitted with, or remove {record}: its answers are then asked for, and paid, again"
        )

        async def call() -> Batch:
            return _identified(await self._endpoint.client.batches.retrieve(batch_id))

        return await self._call(call, missing=(f"there is no batch {batch_id} for this key", remedy))

    async def download(self, file_id: str) -> list[BatchLine]:
        """The lines of an output or error file."""

        async def call() -> list[BatchLine]:
            return output_lines((await self._endpoint.client.files.content(file_id)).content)

        return await self._call(call, timeout_s=_TRANSFER_TIMEOUT_S)

    async def _listed(self, name: str) -> Batch | None:
        page = await self._endpoint.client.batches.list(limit=_LISTED)
        for batch in page.data:
            if (batch.metadata or {}).get(_METADATA) == name:
                return batch
        return None

    async def _call(
        self,
        call: Callable[[], Awaitable[_Reply]],
        *,
        timeout_s: float | None = None,
        missing: tuple[str, str] | None = None,
    ) -> _Reply:
        """Make a call.

        Args:
            timeout_s: for the whole call; left out, that of a question.
            missing: what it means that the path does not exist, and the remedy.
        """
        for attempt in range(self._settings.max_retries + 1):
            try:
                async with asyncio.timeout(timeout_s or self._settings.timeout_s):
                    return await call()
            except (OpenAIError, TimeoutError, json.JSONDecodeError, UnicodeDecodeError, MalformedReplyError) as error:
                failure = classify(error, self._endpoint.api_key)
            if missing and failure.status in _MISSING:
                what, remedy = missing
                raise AnsweringError(f"{what} ({failure.message})", where=self._endpoint.url, remedy=remedy)
            if failure.outlook is not Outlook.RETRY or attempt == self._settings.max_retries:
                break
            await asyncio.sleep(wait_s(failure, attempt, self._retry_s))
        raise self._hopeless(failure)

    def _hopeless(self, failure: Failure) -> AnsweringError:
        remedy = failure.remedy
        if self.on_the_way:
            remedy += f", then run again: {self.on_the_way} submitted batches go on there and are collected then"
        return AnsweringError(failure.message, where=self._endpoint.url, remedy=remedy)


def _identified(made: _Reply) -> _Reply:
    """`made`, if the server said what it is.

    Raises:
        MalformedReplyError: it has no id (the SDK checks nothing).
    """
    if not isinstance(getattr(made, "id", None), str):
        raise MalformedReplyError("a batch or file without an id")
    return made
