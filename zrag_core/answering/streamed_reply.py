"""One chat completion that is read while the server writes it.

Imports the `openai` package; import this module only where it is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
from openai import APIConnectionError, APIError, AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from zrag_core.answering.failures import MalformedReplyError, ReportedError
from zrag_core.answering.requests import content_text


async def streamed_reply(client: AsyncOpenAI, body: dict[str, Any], heard: Callable[[str], object]) -> ChatCompletion:
    """Send a request and return the whole reply, as if it had come at once.

    Args:
        heard: called with the text so far, after every piece of it.

    Raises:
        OpenAIError, JSONDecodeError: as of any request.
        ReportedError: the stream holds an error.
        MalformedReplyError: it holds something else than pieces of a chat completion, or ends before its answer does.
    """
    stream = await client.post(
        "/chat/completions",
        body={**body, "stream": True, "stream_options": {"include_usage": True}},
        cast_to=ChatCompletionChunk,
        stream=True,
        stream_cls=AsyncStream[ChatCompletionChunk],
    )
    async with stream:
        if "json" in stream.response.headers.get("content-type", ""):  # a server that does not stream
            return await _whole(stream.response)
        try:
            return await _collected(stream, heard)
        except APIError as error:
            if type(error) is APIError:  # the SDK's word for an error among the pieces
                raise ReportedError(f"the server reports an error: {error.message}") from None
            raise


async def _whole(response: httpx2.Response) -> ChatCompletion:
    try:
        reply = json.loads(await response.aread())
    except httpx2.TimeoutException as error:
        raise TimeoutError from error
    except httpx2.HTTPError as error:
        raise APIConnectionError(request=response.request) from error
    if not isinstance(reply, dict):
        raise MalformedReplyError(f"not a chat completion ({type(reply).__name__})")
    return ChatCompletion.construct(**reply)


async def _collected(stream: AsyncStream[ChatCompletionChunk], heard: Callable[[str], object]) -> ChatCompletion:
    text, refusal, finish = "", "", None
    model = usage = None
    async for chunk in stream:
        try:
            model, usage = chunk.model or model, chunk.usage or usage
            for choice in chunk.choices or ():
                finish = choice.finish_reason or finish
                piece = content_text(choice.delta.content) if choice.delta else ""
                refusal += (choice.delta.refusal or "") if choice.delta else ""
                text += piece
        except (AttributeError, TypeError, KeyError) as error:
            raise MalformedReplyError(f"not a piece of a chat completion ({type(error).__name__})") from None
        if text:
            heard(text)
    if finish is None:  # the connection was closed; there is no other sign of it where no length was announced
        raise MalformedReplyError("it ends before the answer does")
    message = {"role": "assistant", "content": text, "refusal": refusal or None}
    choice_dict = {"index": 0, "finish_reason": finish, "message": message}
    return ChatCompletion.construct(model=model, choices=[choice_dict], usage=usage)
