"""Failures of requests: whether to retry, and one line about each that never holds the key."""

from __future__ import annotations

import email.utils
import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

import httpx2
import openai

# The same refusal awaits every other question, so the run ends.
_STOP_REMEDIES = {
    401: "the server refuses the API key: check the variable that answers.api_key_env names",
    403: "this key may not use the model: check the account, or choose another answers.model",
    404: "no such model or path: check answers.model and answers.base_url",
}
_LONGEST_MESSAGE = 300
_LONGEST_BACKOFF_S = 30.0
_KEY_LIKE = re.compile(r"\b(sk|pk|rk)-[\w*.\-]{4,}|(?<=Bearer )\S+")


class MalformedReplyError(Exception):
    """A successful status with a body that is not a chat completion."""


class ReportedError(MalformedReplyError):
    """A successful status with a body that is an error."""


class Outlook(Enum):
    """The consequence of a failure for the run."""

    RETRY = "retry"
    """The same request may work later."""
    GIVE_UP = "give up"
    """This request will never work; others may."""
    STOP = "stop"
    """No request will work."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt.

    Attributes:
        message: one line, without key or credentials.
        remedy: what to do when the run stops for it.
        retry_after_s: how long the server asked to wait.
        perhaps_billed: the server may have answered, and charged, without our seeing it.
        unreachable: no connection could be made.
        status: the HTTP status, where there is one.
    """

    outlook: Outlook
    message: str
    remedy: str = "check answers.base_url and the server's log"
    retry_after_s: float | None = None
    perhaps_billed: bool = False
    unreachable: bool = False
    status: int | None = None


def scrub(text: str, *secrets: str) -> str:
    """Return `text` as one line of bounded length, with the secrets and everything like a key blanked."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[key]")
    text = " ".join(_KEY_LIKE.sub("[key]", text).split())
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def public_url(url: str) -> str:
    """Return `url` without user name, password, query and fragment, for display."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as asked by `retry-after-ms` or `Retry-After` (seconds or an HTTP date; RFC 9110, 10.2.3)."""
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / divisor)
        except (KeyError, ValueError):
            continue
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())


@dataclass(frozen=True, slots=True)
class Waits:
    """Waits in seconds.

    Attributes:
        retry_s: before the first retry of a failed call; doubles with each one, with jitter.
        poll_s: before the first look at a batch; doubles with each one, up to a minute.
    """

    retry_s: float = 0.5
    poll_s: float = 2.0


def wait_s(failure: Failure, attempt: int, first_s: float) -> float:
    """Seconds before the next attempt: what the server asked for, and a wait that doubles from `first_s` on.

    With jitter, so that requests turned away together do not come back together.
    """
    backoff = min(_LONGEST_BACKOFF_S, first_s * 2.0**attempt)
    return (failure.retry_after_s or 0.0) + backoff * random.uniform(0.5, 1.0)


def classify(error: Exception, api_key: str) -> Failure:
    """Say what `error`, raised by one attempt, means.

    Raises:
        Exception: `error` itself where it is none that a server or the network can cause.
    """
    if isinstance(error, openai.APIStatusError):
        return _classify_status(error, api_key)
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        unreachable = isinstance(error.__cause__, httpx2.ConnectTimeout)
        return Failure(Outlook.RETRY, "timed out", perhaps_billed=not unreachable, unreachable=unreachable)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        unreachable = isinstance(cause, httpx2.ConnectError)
        message = scrub(f"connection failed: {cause or error}", api_key)
        return Failure(Outlook.RETRY, message, perhaps_billed=not unreachable, unreachable=unreachable)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | MalformedReplyError | openai.APIError):
        what = str(error) if isinstance(error, ReportedError) else f"malformed reply: {error}"
        return Failure(Outlook.RETRY, scrub(what, api_key), perhaps_billed=True)
    raise error


def _classify_status(error: openai.APIStatusError, api_key: str) -> Failure:
    body = error.body if isinstance(error.body, dict) else {}
    detail = body.get("message")
    if not isinstance(detail, str):
        detail = error.message
    status = error.status_code
    message = f"HTTP {status}: {scrub(detail, api_key)}"
    if status == 429 and "insufficient_quota" in (error.code, error.type):
        remedy = "the account has no credit left: add some, then run again"
        return Failure(Outlook.STOP, message, remedy=remedy, status=status)
    if status in (408, 429) or status >= 500:
        wait = retry_after_s(error.response.headers)
        return Failure(Outlook.RETRY, message, retry_after_s=wait, status=status)
    if status in _STOP_REMEDIES:
        return Failure(Outlook.STOP, message, remedy=_STOP_REMEDIES[status], status=status)
    return Failure(Outlook.GIVE_UP, message, remedy="check answers.model and answers.temperature", status=status)
