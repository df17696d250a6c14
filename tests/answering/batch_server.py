"""A small server on loopback with OpenAI's files and batches, which counts what it is asked and can fail on the way."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import LoopbackServer, running

Answerer = Callable[[dict[str, Any]], str]
"""From a request's body to the text of its answer; raise ValueError for a request that fails alone."""


@dataclass
class Faults:
    """What goes wrong, by call ("upload", "create", "look", "list", "download").

    Attributes:
        first: statuses of the first calls, 0 for a connection dropped before anything was done.
        after_doing: calls whose first reply is lost after it was acted upon.
        status: the status that batches end in.
        refusal: message of a batch that fails as a whole.
        leave_out: answers after which an "expired" or "completed" batch says no more.
        looks: how often a batch is looked at before it has ended.
        mangle: applied to the first download.
    """

    first: dict[str, list[int]] = field(default_factory=dict)
    after_doing: set[str] = field(default_factory=set)
    status: str = "completed"
    refusal: str | None = None
    leave_out: int | None = None
    looks: int = 2
    mangle: Callable[[bytes], bytes] | None = None


class BatchServer(LoopbackServer):
    def __init__(self, answer: Answerer, faults: Faults):
        super().__init__(_Handler)
        self.answer, self.faults = answer, faults
        self.lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looks: Counter[str] = Counter()
        self.generated: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []

    # --- what it does -----------------------------------------------------------------------------

    def upload(self, content: bytes) -> dict[str, Any]:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return {
            "id": name,
            "object": "file",
            "bytes": len(content),
            "created_at": 0,
            "filename": "x",
            "purpose": "batch",
        }

    def create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        assert (wanted["endpoint"], wanted["completion_window"]) == ("/v1/chat/completions", "24h")
        name = f"batch-{len(self.batches)}"
        self.batches[name] = {
            **wanted,
            "id": name,
            "object": "batch",
            "created_at": 0,
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
        }
        self._generate(name)
        return self.batches[name]

    def look(self, name: str) -> dict[str, Any]:
        self.looks[name] += 1
        shown = self.batches[name]
        if self.looks[name] >= self.faults.looks:
            shown |= {"status": "failed" if self.faults.refusal else self.faults.status}
            return shown
        return shown | {"output_file_id": None, "error_file_id": None}

    def _generate(self, name: str) -> None:
        """Answer the whole batch; it is paid for from here on."""
        batch = self.batches[name]
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].decode().split("\n") if line]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        if self.faults.refusal:
            batch["errors"] = {"object": "list", "data": [{"code": "invalid", "message": self.faults.refusal}]}
            return
        good, bad = [], []
        for line in lines[: self.faults.leave_out]:
            assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
            self.bodies.append(line["body"])
            try:
                text = self.answer(line["body"])
            except ValueError as error:
                reply = {"status_code": 400, "request_id": "r", "body": {"error": {"message": str(error)}}}
                bad.append({"id": "x", "custom_id": line["custom_id"], "response": reply, "error": None})
                continue
            self.generated[line["body"]["messages"][-1]["content"]] += 1
            reply = {"status_code": 200, "request_id": "r", "body": completion(line["body"]["model"], text)}
            good.append({"id": "x", "custom_id": line["custom_id"], "response": reply, "error": None})
        if self.faults.status == "expired":
            late = {"code": "batch_expired", "message": "This request could not be executed in time."}
            for line in lines[len(good) + len(bad) :]:
                bad.append({"id": "x", "custom_id": line["custom_id"], "response": None, "error": late})
        batch["request_counts"] = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        for kind, rows in (("output_file_id", good[::-1]), ("error_file_id", bad)):
            if rows:
                content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                batch[kind] = self.upload(content.encode())["id"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BatchServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/files":
            self._serve("upload", lambda: self.server.upload(_uploaded(self.headers["Content-Type"], body)))
        elif self.path == "/v1/batches":
            self._serve("create", lambda: self.server.create(json.loads(body)))
        else:
            self._reply(404, {"error": {"message": "Not Found"}})

    def do_GET(self) -> None:
        if found := re.fullmatch(r"/v1/files/(.+)/content", self.path):
            self._serve("download", lambda: self.server.files[found[1]])
        elif found := re.fullmatch(r"/v1/batches/([^?]+)", self.path):
            self._serve("look", lambda: self.server.look(found[1]))
        else:
            rows = list(reversed(self.server.batches.values()))
            self._serve("list", lambda: {"object": "list", "data": rows, "has_more": False})

    def _serve(self, call: str, do: Callable[[], Any]) -> None:
        server, faults = self.server, self.server.faults
        with server.lock:
            server.calls[call] += 1
            if waiting := faults.first.get(call):
                status = waiting.pop(0)
                if status == 0:
                    self.close_connection = True
                else:
                    self._reply(status, {"error": {"message": f"no {call} now"}})
                return
            try:
                made = do()
            except KeyError:
                self._reply(404, {"error": {"message": "No such id"}})
                return
            if call in faults.after_doing:
                faults.after_doing.remove(call)
                self.close_connection = True
                return
            if call == "download" and faults.mangle:
                made, faults.mangle = faults.mangle(made), None
        self._reply(200, made)

    def _reply(self, status: int, made: Any) -> None:
        payload = made if isinstance(made, bytes) else json.dumps(made).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(made, bytes) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:
        """Keep test output clean."""


def completion(model: str, text: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 50, "completion_tokens": 3, "total_tokens": 53},
    }


def _uploaded(content_type: str, body: bytes) -> bytes:
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts = {part.get_param("name", header="content-disposition"): part for part in message.get_payload()}
    assert parts["purpose"].get_payload().strip() == "batch"
    return parts["file"].get_payload(decode=True)


@contextmanager
def serving_batches(answer: Answerer = lambda _body: "an answer", **faults: Any) -> Iterator[BatchServer]:
    """Serve on an ephemeral loopback port until the block ends."""
    with running(BatchServer(answer, Faults(**faults))) as server:
        yield server
