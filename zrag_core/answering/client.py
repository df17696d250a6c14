"""The answering model behind OpenAI's API or any server that speaks it.

Imports the `openai` package; import this module only where it is used.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from openai import AsyncOpenAI

from zrag_core.answering.answer_stream import AnswerStopped, AnswerStream
from zrag_core.answering.batch import BatchRun
from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.failures import Waits, public_url
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.prices import estimate_cost, load_prices, price_of
from zrag_core.answering.prompts import build_messages, prompt_hash
from zrag_core.answering.requests import Endpoint
from zrag_core.answering.results import RunResults
from zrag_core.answering.run import CompletionRun
from zrag_core.answering.thinking import settled_answer
from zrag_core.answering.types import (
    Answer,
    AnswerRequest,
    CallObserver,
    Completion,
    CostEstimate,
    Progress,
    Prompt,
)
from zrag_core.errors import AnsweringError
from zrag_core.settings import LOCAL_MODEL, AnswerSettings

OPENAI_URL = "https://api.openai.com/v1"
_T = TypeVar("_T")

log = logging.getLogger(__name__)


class OpenAIReader:
    """Answers through the chat completions API of OpenAI or of any server that speaks it.

    The spending limit holds over the life of the ledger: use one for one run.

    Args:
        settings: model, temperature, limits, and whether to use the Batch API.
        api_key: never shown in any message.
        cache: answers found here are not asked for again, and every answer received goes here.
        ledger: shared with other readers of the same run; left out, one of its own.
        observe: called with every prompt and its completion.
        waits: before retries, and between looks at a batch.

    Raises:
        AnsweringError: the base URL or the key cannot be used, or batches are asked for without a cache.
    """

    name = "openai"

    def __init__(
        self,
        settings: AnswerSettings,
        api_key: str,
        *,
        cache: AnswerCache | None = None,
        ledger: SpendingLedger | None = None,
        observe: CallObserver | None = None,
        waits: Waits | None = None,
    ):
        self.model = settings.model
        address = _parse_address((settings.base_url or OPENAI_URL).strip())
        self.base_url, self._headers = _without_credentials(address)
        # A key read from a file often ends with a line end, which no HTTP header may hold.
        self._api_key = api_key.strip()
        if not self._api_key or not self._api_key.isascii() or not self._api_key.isprintable():
            raise AnsweringError(
                "the API key is empty or holds characters that no key has",
                where=settings.api_key_env,
                remedy="set it again",
            )
        self.endpoint = public_url(self.base_url)
        host = address.hostname or ""
        self.at_openai = host == "api.openai.com" or host.endswith(".api.openai.com")
        self.ledger = ledger or SpendingLedger(settings.max_cost_usd)
        if settings.batch and cache is None:
            raise AnsweringError(
                "batches need the answer cache, so that a batch that was paid for is never lost",
                where="answers.batch",
                remedy="give the reader a cache, or set it to false",
            )
        self._settings = settings
        self._cache = cache
        self._observe = observe
        self._waits = waits or Waits()
        self._price, note = price_of(self.model, at_openai=self.at_openai, batch=settings.batch)
        if self.model not in (LOCAL_MODEL, *load_prices().models):
            log.warning("%s", note)
        # Two servers may give different models the same name.
        self._identity = self.model if self.at_openai else f"{self.model}@{self.endpoint}"
        self._one_run = threading.Lock()
        self._begins_reasoning = False

    def answer(self, requests: Sequence[AnswerRequest], progress: Progress | None = None) -> list[Answer]:
        """Return one `Answer` for each request, in order; see `complete`."""
        completions = self.complete([self._prompt(request) for request in requests], progress)
        return [self._answer_to(request, done) for request, done in zip(requests, completions, strict=True)]

    def answer_streamed(self, request: AnswerRequest, stream: AnswerStream) -> Answer:
        """Return the answer to one request; its text goes to `stream` as the model writes it.

        Else as `answer`: cached, paid and observed alike. One that breaks off has an `error` and is not cached. A
        batch, and the reply of a server that does not stream, is shown when it is whole.

        Raises:
            AnsweringError: as for `complete`.
            AnswerStopped: `stream` was stopped; what was sent may be billed.
        """
        try:
            with self._one_run:
                done = _in_a_loop(self._run_streamed(self._prompt(request), stream))
        except asyncio.CancelledError:
            raise AnswerStopped("the answer was stopped") from None
        answer = self._answer_to(request, done)
        if answer.error is None:
            # Reasoning that the prompt has opened cannot be told from an answer before it ends. Once is enough.
            self._begins_reasoning = self._begins_reasoning or not answer.answer.startswith(stream.text)
            stream.reach(answer.answer)
        return answer

    def estimate(self, requests: Sequence[AnswerRequest]) -> CostEstimate:
        """Estimate what answering `requests` costs at most, with what is cached left out."""
        return self.estimate_prompts([self._prompt(request) for request in requests])

    def estimate_prompts(self, prompts: Sequence[Prompt]) -> CostEstimate:
        """Estimate what completing `prompts` costs at most, with what is cached left out."""
        unique = {self._hash(prompt): prompt for prompt in prompts}
        fresh = [p for key, p in unique.items() if self._cache is None or self._cache.get(key) is None]
        batch = self._settings.batch
        return estimate_cost(fresh, self.model, at_openai=self.at_openai, requests=len(prompts), batch=batch)

    def complete(self, prompts: Sequence[Prompt], progress: Progress | None = None) -> list[Completion]:
        """Return one `Completion` for each prompt, in order.

        May be called with or without a running event loop; `progress` is called from the thread
        that runs the requests. A prompt given twice is sent once. A question that fails for good
        carries its `error`; after the spending limit the rest carry "spending limit".

        Raises:
            AnsweringError: nothing more can be answered: wrong key, unreachable server, no such
                model, unknown price, too many failures in a row. What was received is in the cache.
        """
        with self._one_run:
            return _in_a_loop(self._run(prompts, progress))

    def forget(self, completion: Completion) -> None:
        """Drop an unusable completion from the cache, so that its prompt is sent again the next time."""
        if self._cache is not None:
            self._cache.forget(completion.prompt_hash)

    async def _run_streamed(self, prompt: Prompt, stream: AnswerStream) -> Completion:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        with stream.stopping_by(lambda: loop.call_soon_threadsafe(task.cancel)):
            (done,) = await self._run([prompt], None, stream)
        return done

    async def _run(
        self, prompts: Sequence[Prompt], progress: Progress | None, stream: AnswerStream | None = None
    ) -> list[Completion]:
        keys = [self._hash(prompt) for prompt in prompts]
        results = RunResults(keys, prompts, self.ledger, progress=progress, observe=self._observe)
        to_send = results.take_cached(self._cache)
        if not to_send:
            return results.in_order()
        if self._price is None:
            raise AnsweringError(
                "no price is known for this model, so the spending limit could not be kept",
                where=f"model '{self.model}'",
                remedy="choose a model listed in zrag_core/answering/prices.yaml, or add its price there",
            )
        # The SDK does not retry: its retries would pass by the spending limit.
        async with AsyncOpenAI(
            api_key=self._api_key,
            base_url=self.base_url,
            default_headers=self._headers,
            timeout=self._settings.timeout_s,
            max_retries=0,
        ) as client:
            endpoint = Endpoint(client, self.endpoint, self.at_openai, self._api_key, self._price)
            run = self._run_at(endpoint, results)
            if stream is not None and isinstance(run, CompletionRun):
                await run.send_streamed(*to_send.popitem(), stream, self._view)
            else:
                await run.send(to_send)
        return results.in_order()

    def _run_at(self, endpoint: Endpoint, results: RunResults) -> CompletionRun | BatchRun:
        if self._settings.batch and self._cache is not None:
            return BatchRun(endpoint, self._settings, self.ledger, self._cache, results, self._waits)
        return CompletionRun(endpoint, self._settings, self.ledger, self._cache, results, self._waits)

    def _view(self, text: str) -> str:
        """What is shown of a reply that the model has written so far."""
        return self._worded(settled_answer(f"<think>{text}" if self._begins_reasoning else text))

    def _worded(self, text: str) -> str:
        """The answer that a reply without its reasoning holds, also one that is not yet at its end."""
        return text

    def _answer_to(self, request: AnswerRequest, done: Completion) -> Answer:
        return Answer(
            question_id=request.question_id,
            system=request.system,
            reader=self.name,
            model=self.model,
            answer=self._worded(done.text),
            **done.call(),
        )

    def _prompt(self, request: AnswerRequest) -> Prompt:
        messages = build_messages(request.question, request.evidence, request.language, request.closed_book)
        labels = {"purpose": "answer", "question_id": request.question_id, "system": request.system}
        return Prompt(messages, self._settings.max_answer_tokens, labels)

    def _hash(self, prompt: Prompt) -> str:
        return prompt_hash(self._identity, self._settings.temperature, prompt.max_tokens, prompt.messages)


def _in_a_loop(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` to its end, beside the event loop of the caller where there is one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()


def _parse_address(url: str) -> SplitResult:
    """Split `url`.

    Raises:
        AnsweringError: it is none; the text is not repeated, as it may hold a password.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise AnsweringError(
            "not the address of a server",
            where="answers.base_url",
            remedy="give one like http://127.0.0.1:8000/v1, or leave it out for api.openai.com",
        )
    return parts


def _without_credentials(address: SplitResult) -> tuple[str, dict[str, str]]:
    """Move user name and password from a URL to a header: the HTTP library writes URLs to the log."""
    if address.username is None:
        return address.geturl(), {}
    pair = f"{unquote(address.username)}:{unquote(address.password or '')}"
    basic = base64.b64encode(pair.encode()).decode("ascii")
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl(), {"Authorization": f"Basic {basic}"}
