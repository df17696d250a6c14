"""A reply of the memory as a message with citations, in the forms of OpenAI's chat and responses interfaces."""

from __future__ import annotations

import itertools
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zrag_core.answer_matching import answer_coverage
from zrag_core.replies import Reply, Source
from zrag_core.text import detect_language

_QUOTED = 3  # pieces of evidence that stand in for an answer where no model answers
_PIECES = re.compile(r"\s*\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class Message:
    """What is said, with marks [1], [2] that lead to sources.

    Attributes:
        text: the answer of a model, the evidence itself where no model answers, or the refusal.
        cited: the sources that the marks name, in their order.
    """

    text: str
    cited: tuple[Source, ...]


def message_of(reply: Reply) -> Message:
    """The message that a reply amounts to. Without a model nothing is called an answer: the evidence is quoted."""
    if not reply.answerable:
        return Message(reply.answer, ())
    if not reply.answer:
        quoted = reply.sources[:_QUOTED]
        if not quoted:
            return Message(reply.evidence, ())
        lines = [f"{source.shown} [{number}]" for number, source in enumerate(quoted, 1)]
        return Message("\n".join(lines), quoted)
    cited = _cited(reply)
    marks = "".join(f" [{number}]" for number in range(1, len(cited) + 1))
    return Message(f"{reply.answer}{marks}", cited)


def _cited(reply: Reply) -> tuple[Source, ...]:
    """The sources that say the answer word for word; none where none does, as nothing is known to speak for it."""
    language = detect_language(reply.question)
    saying = [s for s in reply.sources if answer_coverage(s.shown, [reply.answer], language)]
    return tuple(saying[:_QUOTED])


def new_id(kind: str) -> str:
    """A name for a response or a message."""
    return f"{kind}-{uuid.uuid4().hex}"


def chat_completion(message: Message, reply: Reply, model: str) -> dict[str, Any]:
    """The object `chat.completion`; `zrag` is the whole reply."""
    said = {"role": "assistant", "content": message.text, "annotations": _annotations(message)}
    return {
        "id": new_id("chatcmpl"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
        "zrag": reply.to_dict(),
    }


class ChatStream:
    """A streamed chat completion, in objects `chat.completion.chunk`: the text, then annotations and the whole reply.

    Args:
        model: what the model is called.
    """

    end_mark = "data: [DONE]\n\n"

    def __init__(self, model: str):
        self._head = {
            "id": new_id("chatcmpl"),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._role = {"role": "assistant"}

    def begun(self, reply: Reply, waiting: bool) -> Iterator[dict[str, Any]]:
        """Where an answer is waited for, what is known before it: `zrag` is the reply as far as it goes."""
        if waiting:
            yield self._said("", zrag=reply.to_dict())

    def said(self, piece: str) -> Iterator[dict[str, Any]]:
        """A piece of the message."""
        yield self._said(piece)

    def ended(self, message: Message, reply: Reply) -> Iterator[dict[str, Any]]:
        """The end of a message that has been said."""
        yield self._chunk({"annotations": _annotations(message)}, "stop", zrag=reply.to_dict())

    def failed(self, error: str) -> Iterator[dict[str, Any]]:
        """The end of a message that breaks off."""
        yield error_object("server_error", error)

    def _said(self, piece: str, **more: Any) -> dict[str, Any]:
        role, self._role = self._role, {}
        return self._chunk({**role, "content": piece}, **more)

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def error_object(kind: str, message: str) -> dict[str, Any]:
    """An error as OpenAI's interfaces word it."""
    return {"error": {"message": message, "type": kind, "code": None, "param": None}}


def response_object(message: Message, reply: Reply, model: str) -> dict[str, Any]:
    """The object `response`; `zrag` is the whole reply."""
    return {
        **_response(model),
        "status": "completed",
        "output": [_item(message, new_id("msg"))],
        "zrag": reply.to_dict(),
    }


class ResponseStream:
    """A streamed response, in numbered events.

    Args:
        model: what the model is called.
    """

    end_mark = ""

    def __init__(self, model: str):
        self._response = _response(model)
        self._name = new_id("msg")
        self._place = {"item_id": self._name, "output_index": 0, "content_index": 0}
        self._numbers = itertools.count()

    def begun(self, reply: Reply, waiting: bool) -> Iterator[dict[str, Any]]:
        """What is known before the message: `zrag` is the reply as far as it goes."""
        response = {**self._response, "status": "in_progress", "zrag": reply.to_dict()}
        item = {**_item(Message("", ()), self._name), "status": "in_progress", "content": []}
        yield self._event("response.created", response=response)
        yield self._event("response.output_item.added", output_index=0, item=item)
        part = {"type": "output_text", "text": "", "annotations": []}
        yield self._event("response.content_part.added", **self._place, part=part)

    def said(self, piece: str) -> Iterator[dict[str, Any]]:
        """A piece of the message."""
        yield self._event("response.output_text.delta", **self._place, delta=piece, logprobs=[])

    def ended(self, message: Message, reply: Reply) -> Iterator[dict[str, Any]]:
        """The end of a message that has been said."""
        item = _item(message, self._name)
        yield self._event("response.output_text.done", **self._place, text=message.text, logprobs=[])
        yield self._event("response.content_part.done", **self._place, part=item["content"][0])
        yield self._event("response.output_item.done", output_index=0, item=item)
        whole = {**self._response, "status": "completed", "output": [item], "zrag": reply.to_dict()}
        yield self._event("response.completed", response=whole)

    def failed(self, error: str) -> Iterator[dict[str, Any]]:
        """The end of a message that breaks off."""
        said = {"code": "server_error", "message": error}
        yield self._event("response.failed", response={**self._response, "status": "failed", "error": said})

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": kind, **fields, "sequence_number": next(self._numbers)}


def _response(model: str) -> dict[str, Any]:
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "output": [],
        "parallel_tool_calls": False,
        "tool_choice": "none",
        "tools": [],
    }


def _item(message: Message, name: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": message.text, "annotations": _annotations(message), "logprobs": []}
    return {"type": "message", "id": name, "status": "completed", "role": "assistant", "content": [text]}


def _annotations(message: Message) -> list[dict[str, Any]]:
    """A citation for each mark; `zrag` says where in the document it leads."""
    found = []
    for number, source in enumerate(message.cited, 1):
        index = message.text.find(f"[{number}]")
        place = {"document_id": source.document_id, "start": source.start, "end": source.end, "text": source.text}
        found.append(
            {
                "type": "file_citation",
                "index": max(0, index),
                "file_id": source.document_id,
                "filename": source.title or source.document_id,
                "zrag": place,
            }
        )
    return found


def pieces_of(text: str) -> list[str]:
    """The text in words, as it is streamed."""
    return _PIECES.findall(text)
