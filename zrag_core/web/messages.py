"""A reply of the memory as a message with citations, in the forms of OpenAI's chat and responses interfaces."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zrag_core.answer_matching import answer_coverage
from zrag_core.memory import Reply, Source
from zrag_core.text import detect_language

_QUOTED = 3  # pieces of evidence that stand in for an answer where no model answers
_PIECES = re.compile(r"\S+\s*|\n")


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
        lines = [f"{_shown(source)} [{number}]" for number, source in enumerate(quoted, 1)]
        return Message("\n".join(lines), quoted)
    cited = _cited(reply)
    marks = "".join(f" [{number}]" for number in range(1, len(cited) + 1))
    return Message(f"{reply.answer}{marks}", cited)


def _cited(reply: Reply) -> tuple[Source, ...]:
    """The sources that say the answer word for word; none where none does, as nothing is known to speak for it."""
    language = detect_language(reply.question)
    saying = [s for s in reply.sources if answer_coverage(_shown(s), [reply.answer], language)]
    return tuple(saying[:_QUOTED])


def _shown(source: Source) -> str:
    return source.reading or source.text


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


def chat_chunks(message: Message, reply: Reply, model: str) -> Iterator[dict[str, Any]]:
    """The objects `chat.completion.chunk`; the last one brings the annotations and the whole reply."""
    head = {"id": new_id("chatcmpl"), "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
    for number, piece in enumerate(_pieces(message.text)):
        delta = {"content": piece, **({} if number else {"role": "assistant"})}
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    last = {"index": 0, "delta": {"annotations": _annotations(message)}, "finish_reason": "stop"}
    yield {**head, "choices": [last], "zrag": reply.to_dict()}


def response_object(message: Message, reply: Reply, model: str) -> dict[str, Any]:
    """The object `response`; `zrag` is the whole reply."""
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "status": "completed",
        "output": [_item(message, new_id("msg"))],
        "parallel_tool_calls": False,
        "tool_choice": "none",
        "tools": [],
        "zrag": reply.to_dict(),
    }


def response_events(message: Message, reply: Reply, model: str) -> Iterator[dict[str, Any]]:
    """The events of a streamed response, numbered."""
    whole = response_object(message, reply, model)
    item = whole["output"][0]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    empty = {**whole, "status": "in_progress", "output": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": empty},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": part},
    ]
    events += [
        {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
        for piece in _pieces(message.text)
    ]
    events += [
        {"type": "response.output_text.done", **place, "text": message.text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": item["content"][0]},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}


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


def _pieces(text: str) -> list[str]:
    """The text in words, as it is streamed."""
    return _PIECES.findall(text) or [""]
