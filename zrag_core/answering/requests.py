"""The server that is asked, what a request to it says, and how its reply is read.

Imports the `openai` package; import this module only where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from zrag_core.answering.cache import CachedAnswer
from zrag_core.answering.failures import MalformedReplyError, ReportedError
from zrag_core.answering.prices import Price, Usage, actual_cost, prompt_tokens
from zrag_core.answering.types import Prompt
from zrag_core.settings import AnswerSettings
from zrag_core.text import evidence_tokens

SPENDING_LIMIT = "spending limit"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The server that a run talks to.

    Attributes:
        client: with its own retries switched off.
        url: for display, without credentials.
        price: what a token costs this run.
    """

    client: AsyncOpenAI
    url: str
    at_openai: bool
    api_key: str
    price: Price


def request_body(settings: AnswerSettings, endpoint: Endpoint, prompt: Prompt) -> dict[str, Any]:
    """The chat completion request for `prompt`."""
    # OpenAI's newer models know only the first name, most other servers only the second.
    limit = "max_completion_tokens" if endpoint.at_openai else "max_tokens"
    return {
        "model": settings.model,
        "messages": prompt.messages,
        "temperature": settings.temperature,
        limit: prompt.max_tokens,
    }


def read_reply(reply: ChatCompletion, model: str, prompt: Prompt, price: Price, worst: float) -> CachedAnswer:
    """Take text, tokens and cost from a reply; where the server counts no tokens, the estimate and the worst case.

    Raises:
        ReportedError: the reply is an error, though its status says success.
        MalformedReplyError: the reply is not a chat completion (the SDK checks nothing).
    """
    if error := getattr(reply, "error", None):
        detail = error.get("message") if isinstance(error, dict) else None
        raise ReportedError(f"the server reports an error: {detail or error}")
    try:
        message = reply.choices[0].message
        text = (content_text(message.content) or message.refusal or "").strip()
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
    finish = str(reply.choices[0].finish_reason or "")
    return CachedAnswer(text, counted.prompt_tokens, counted.completion_tokens, str(reply.model or model), cost, finish)


def content_text(content: Any) -> str:
    """A message's text; some servers send it in parts."""
    if not isinstance(content, list):
        return content or ""
    return "".join(part["text"] for part in content if part.get("type") == "text")
