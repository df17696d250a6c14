"""The program of the local reader: one chat model behind OpenAI's chat completions API, on loopback only.

Requests that arrive while others are written wait for them and are then written together. `local_process` starts
this program and ends it; it also ends by itself as soon as whoever started it is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zrag_core.answering.answer_stream import AnswerStream

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from zrag_core.answering.local_model import Chat, ChatReply, LocalChatModel

_PR_SET_PDEATHSIG = 1
_LONGEST_REPLY = 1024
_AT_ONCE = 32  # requests that are taken up together; the model divides them by length
_GATHER_S = 0.005  # requests sent together arrive within this


class _Batches:
    """Hands requests to the model, all that wait at a time."""

    def __init__(self, model: LocalChatModel):
        self._model = model
        self._waiting: asyncio.Queue[tuple[Chat, asyncio.Future[ChatReply]]] = asyncio.Queue()

    async def reply(self, chat: Chat) -> ChatReply:
        future: asyncio.Future[ChatReply] = asyncio.get_running_loop().create_future()
        await self._waiting.put((chat, future))
        return await future

    async def pieces(self, chat: Chat) -> AsyncGenerator[str | ChatReply, None]:
        """The reply's text as it is written, then the whole reply; closed early, the writing stops."""
        told: asyncio.Queue[str | asyncio.Future[ChatReply]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        stream = AnswerStream(lambda piece: loop.call_soon_threadsafe(told.put_nowait, piece))
        whole = asyncio.ensure_future(self.reply(replace(chat, stream=stream)))
        whole.add_done_callback(told.put_nowait)
        try:
            while isinstance(item := await told.get(), str):
                yield item
            yield item.result()
        finally:
            stream.stop()
            whole.cancel()

    async def work(self) -> None:
        """Write until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            await asyncio.sleep(_GATHER_S)
            while len(batch) < _AT_ONCE and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            # A client that hung up is not written for.
            batch = [(chat, future) for chat, future in batch if not future.done()]
            try:
                replies = await asyncio.to_thread(self._model.reply, [chat for chat, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), reply in zip(batch, replies, strict=True):
                if not future.done():
                    future.set_result(reply)


def create_app(model: LocalChatModel) -> Starlette:
    """The server's routes: `/health`, `/v1/models` and `/v1/chat/completions`."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    batches = _Batches(model)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "model": model.name})

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": model.name, "object": "model", "owned_by": "local"}]})

    async def complete(request: Request) -> Response:
        try:
            body = await request.json()
            chat = _chat(body)
            counted = bool((body.get("stream_options") or {}).get("include_usage"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return _refused(400, f"not a chat completion request ({type(error).__name__}: {error})")
        if body.get("model", model.name) != model.name:
            return _refused(404, f"this server has only the model {model.name}")
        if reason := model.refusal(chat):
            return _refused(400, reason)
        if body.get("stream"):
            return StreamingResponse(_events(model.name, batches.pieces(chat), counted), media_type="text/event-stream")
        return JSONResponse(_completion(model.name, await batches.reply(chat)))

    def _refused(status: int, message: str) -> Response:
        return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        worker = asyncio.create_task(batches.work())
        yield
        worker.cancel()

    routes = [
        Route("/health", health),
        Route("/v1/models", models),
        Route("/v1/chat/completions", complete, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _chat(body: Any) -> Chat:
    from zrag_core.answering.local_model import Chat

    messages = [{"role": str(message["role"]), "content": _content(message["content"])} for message in body["messages"]]
    if not messages:
        raise ValueError("no messages")
    limit = int(body.get("max_completion_tokens") or body.get("max_tokens") or _LONGEST_REPLY)
    temperature = float(body.get("temperature") or 0.0)
    if limit < 1 or not 0.0 <= temperature <= 2.0:
        raise ValueError("max_tokens is at least 1, and temperature from 0 to 2")
    return Chat(messages, min(limit, _LONGEST_REPLY), temperature)


def _content(content: Any) -> str:
    """A message's text, given as such or in parts."""
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def _completion(name: str, reply: ChatReply) -> dict[str, Any]:
    """The reply as OpenAI's API words it."""
    message = {"role": "assistant", "content": reply.text}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop" if reply.finished else "length"}],
        "usage": _usage(reply),
    }


async def _events(name: str, pieces: AsyncGenerator[str | ChatReply, None], counted: bool) -> AsyncIterator[str]:
    """A reply as OpenAI's API streams it, its usage at the end where that is asked for."""
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion.chunk", "created": int(time.time())}

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps({**head, 'model': name, 'choices': choices, **more}, ensure_ascii=False)}\n\n"

    def choice(delta: dict[str, str], finish: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    yield event(choice({"role": "assistant", "content": ""}))
    try:
        async with aclosing(pieces):
            async for item in pieces:
                if isinstance(item, str):
                    yield event(choice({"content": item}))
                    continue
                yield event(choice({}, "stop" if item.finished else "length"))
                if counted:
                    yield event([], usage=_usage(item))
    except Exception as error:
        yield f"data: {json.dumps({'error': {'message': str(error), 'type': 'server_error'}})}\n\n"
        raise
    yield "data: [DONE]\n\n"


def _usage(reply: ChatReply) -> dict[str, int]:
    total = reply.prompt_tokens + reply.completion_tokens
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": total,
    }


def end_with(parent: int) -> None:
    """End this process as soon as the process `parent`, which holds the other end of standard input, is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before that
            os._exit(1)

    def wait() -> None:
        # Elsewhere, and where the thread that started us lives on in another process: the pipe's end.
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Serve on a socket that was bound by the parent, which alone chooses the address."""
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Hugging Face folder of the model")
    parser.add_argument("--name", required=True, help="what the API calls it")
    parser.add_argument("--socket", type=int, required=True, help="file descriptor of the bound socket")
    parser.add_argument("--parent", type=int, required=True, help="id of the process to end with")
    parser.add_argument("--threads", type=int, required=True, help="CPU threads")
    given = parser.parse_args()
    end_with(given.parent)
    from zrag_core.answering.local_model import LocalChatModel
    from zrag_core.errors import ZragError

    try:
        model = LocalChatModel(given.folder, given.name, given.threads)
    except ZragError as error:
        sys.exit(str(error))
    config = uvicorn.Config(create_app(model), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=given.socket)])


if __name__ == "__main__":
    main()
