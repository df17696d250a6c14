"""A question that is asked in a thread, told as it is answered: server-sent events, and an end when nobody listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from zrag_core.answering.answer_stream import AnswerStream
from zrag_core.errors import ZragError
from zrag_core.replies import Reply
from zrag_core.web.messages import Message, message_of, pieces_of

Ask = Callable[[AnswerStream, Callable[[Reply], object]], Reply]
"""Asks a question, as `MemoryService.ask_streamed` does, given a stream and what to call with the evidence."""


class MessageStream(Protocol):
    """The form in which a message is streamed.

    Attributes:
        end_mark: what closes the stream of a whole message.
    """

    end_mark: str

    def begun(self, reply: Reply, waiting: bool) -> Iterator[dict[str, Any]]:
        """What is known before the message; `waiting` for its first piece or not."""
        ...

    def said(self, piece: str) -> Iterator[dict[str, Any]]:
        """A piece of the message."""
        ...

    def ended(self, message: Message, reply: Reply) -> Iterator[dict[str, Any]]:
        """The end of a message that has been said."""
        ...

    def failed(self, error: str) -> Iterator[dict[str, Any]]:
        """The end of a message that breaks off."""
        ...


class Telling:
    """One question under way; for one listener, within the event loop that it was made in.

    Attributes:
        waiting: a model is being asked for the answer; known after `begin`.
    """

    def __init__(self, ask: Ask):
        self.waiting = False
        loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[Reply | str | asyncio.Task[Reply]] = asyncio.Queue()

        def tell(item: Reply | str) -> None:
            loop.call_soon_threadsafe(self._told.put_nowait, item)

        self._stream = AnswerStream(tell)
        self._asked = asyncio.create_task(run_in_threadpool(ask, self._stream, tell))
        self._asked.add_done_callback(self._done)

    async def begin(self) -> Reply:
        """The reply, without its answer where a model has yet to give it.

        Raises:
            ZragError: it failed before that.
        """
        try:
            first = await self._told.get()
        except BaseException:
            self.stop()
            raise
        if isinstance(first, asyncio.Task):
            self._told.put_nowait(first)
            return first.result()
        assert isinstance(first, Reply)
        self.waiting = True
        return first

    async def pieces(self) -> AsyncIterator[str]:
        """The answer, as it is written; nothing where `begin` has brought all of it."""
        while isinstance(item := await self._told.get(), str):
            yield item

    def end(self) -> Reply:
        """The whole reply, after its last piece.

        Raises:
            ZragError: the answer breaks off, or there is none.
        """
        return answered(self._asked.result())

    def stop(self) -> None:
        """End the answer; nobody listens any more."""
        self._stream.stop()

    def _done(self, asked: asyncio.Task[Reply]) -> None:
        if not asked.cancelled():
            asked.exception()  # looked at, so that nothing is logged where nobody listens any more
        self._told.put_nowait(asked)


class EventResponse(StreamingResponse):
    """An answer as server-sent events; it is stopped when the client has gone."""

    def __init__(self, telling: Telling, begun: Reply, form: MessageStream):
        events = _events(telling, begun, form)
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._telling = telling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, as far as the client listens."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._telling.stop()


def answered(reply: Reply) -> Reply:
    """The reply.

    Raises:
        ZragError: the model gave no answer.
    """
    if reply.error is not None:
        raise ZragError(f"the answering model failed: {reply.error}")
    return reply


async def _events(telling: Telling, begun: Reply, form: MessageStream) -> AsyncIterator[str]:
    for event in form.begun(begun, telling.waiting):
        yield _event(event)
    said = ""
    async for piece in telling.pieces():
        said += piece
        for event in form.said(piece):
            yield _event(event)
    try:
        reply = telling.end()
    except ZragError as error:
        for event in form.failed(str(error)):
            yield _event(event)
        return
    message = message_of(reply)
    # Where the model's words turn out to have been none of its answer, that stands below them.
    rest = message.text[len(said) :] if message.text.startswith(said) else f"\n\n{message.text}"
    for piece in pieces_of(rest):
        for event in form.said(piece):
            yield _event(event)
    for event in form.ended(message, reply):
        yield _event(event)
    yield form.end_mark


def _event(event: dict[str, Any]) -> str:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n"
