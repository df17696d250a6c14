"""The Batch API's input and output files, and the record on disk of batches that are not collected yet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from zrag_core.answering.failures import MalformedReplyError
from zrag_core.errors import AnsweringError
from zrag_core.files import write_json_atomic

# OpenAI's limits for one input file, the second with some room.
MAX_REQUESTS = 50_000
MAX_BYTES = 190_000_000
CHAT_PATH: Final = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Submission:
    """One batch, from just before it is created until its answers are in the cache.

    Attributes:
        name: random; the file's name, and in the batch's metadata.
        batch_id: None while it is not known whether the server has made the batch.
        url: the server, for display.
        submitted_at: seconds since 1970.
        worst_usd: the most that each prompt may cost, by prompt hash.
    """

    name: str
    batch_id: str | None
    url: str
    submitted_at: float
    worst_usd: dict[str, float]

    def save(self, folder: Path) -> None:
        """Write or replace the record."""
        write_json_atomic(self.path(folder), asdict(self))

    def forget(self, folder: Path) -> None:
        """Remove the record."""
        self.path(folder).unlink(missing_ok=True)

    def path(self, folder: Path) -> Path:
        """The record's file."""
        return folder / f"{self.name}.json"


def pending(folder: Path, url: str) -> list[Submission]:
    """Batches at the server `url` that are not collected yet.

    Raises:
        AnsweringError: a record cannot be read.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            submission = Submission(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise AnsweringError(
                f"the record of a batch cannot be read ({type(error).__name__})",
                where=str(path),
                remedy="move it away; the answers of that batch will then be asked for, and paid, again",
            ) from error
        if submission.url == url:
            found.append(submission)
    return found


def input_line(key: str, body: Mapping[str, Any]) -> bytes:
    """One request of an input file; its hash comes back with the answer."""
    line = {"custom_id": key, "method": "POST", "url": CHAT_PATH, "body": body}
    return json.dumps(line, ensure_ascii=False).encode("utf-8") + b"\n"


def split(lines: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Divide requests, by hash, into parts that one input file may hold."""
    part: dict[str, bytes] = {}
    size = 0
    for key, line in lines.items():
        if part and (len(part) == MAX_REQUESTS or size + len(line) > MAX_BYTES):
            yield part
            part, size = {}, 0
        part[key] = line
        size += len(line)
    if part:
        yield part


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One line of an output or error file.

    Attributes:
        body: the reply as the API would have given it, or None where `error` says why there is none.
    """

    key: str
    body: Mapping[str, Any] | None
    error: str | None


def output_lines(content: bytes) -> list[BatchLine]:
    """Read an output or error file.

    Raises:
        MalformedReplyError: a line is none of such a file.
    """
    lines = []
    # Not splitlines(): answers may hold other line separators than \n.
    for text in content.split(b"\n"):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
            key, response, error = row["custom_id"], row.get("response") or {}, row.get("error")
            status, body = response.get("status_code"), response.get("body")
        except (ValueError, TypeError, KeyError, AttributeError) as problem:
            raise MalformedReplyError(f"not the output of a batch ({type(problem).__name__})") from None
        if status == 200 and not error and isinstance(body, dict):
            lines.append(BatchLine(key, body, None))
        else:
            detail = error or (body.get("error") if isinstance(body, dict) else None) or {}
            reason = detail.get("message") or detail.get("code") if isinstance(detail, dict) else str(detail)
            shown = f"HTTP {status}: " if status else ""
            lines.append(BatchLine(key, None, f"{shown}{reason or 'no reason given'}"))
    return lines
