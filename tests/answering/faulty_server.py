"""A small OpenAI-compatible server on loopback that fails in the ways real ones do, and counts what it sees."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from loopback import LoopbackServer, running


@dataclass(frozen=True)
class Reply:
    """How to answer one request.

    `body` None sends a proper completion with `text`; `drop` closes the connection without a word;
    `trickle_s` is the pause after each byte of the body.
    """

    status: int = 200
    text: str = "an answer"
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drop: bool = False
    trickle_s: float = 0.0
    usage: dict[str, object] | None = field(default_factory=lambda: {"prompt_tokens": 50, "completion_tokens": 3})


Behaviour = Callable[[str, int], Reply]
"""From the user message and how often it was seen before (0 first) to the reply."""


class FaultyServer(LoopbackServer):
    def __init__(self, behave: Behaviour):
        super().__init__(_Handler)
        self.behave = behave
        self.lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        self.bodies: list[dict] = []
        self.times: list[float] = []
        self.keys: set[str] = set()
        self.in_flight = 0
        self.most_in_flight = 0
        self.answered = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        with server.lock:
            before = server.seen[prompt]
            server.seen[prompt] += 1
            server.bodies.append(body)
            server.times.append(time.monotonic())
            server.keys.add(self.headers.get("Authorization", ""))
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        reply = server.behave(prompt, before)
        time.sleep(reply.delay_s)
        with server.lock:
            server.in_flight -= 1
        if reply.drop:
            self.close_connection = True
            return
        payload = reply.body if reply.body is not None else self._completion(body["model"], reply)
        self.send_response(reply.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(payload))} | reply.headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for at in range(0, len(payload), step := 1 if reply.trickle_s else max(1, len(payload))):
                self.wfile.write(payload[at : at + step])
                time.sleep(reply.trickle_s)
        except ConnectionError:
            self.close_connection = True
            return
        with server.lock:
            server.answered += 1

    def _completion(self, model: str, reply: Reply) -> bytes:
        message = {"role": "assistant", "content": reply.text}
        completion = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": reply.usage,
        }
        return json.dumps(completion).encode()

    def log_message(self, format: str, *args: object) -> None:
        """Keep test output clean."""


def error_body(message: str, **fields: str) -> bytes:
    """An error as OpenAI words it."""
    return json.dumps({"error": {"message": message, "type": None, "code": None} | fields}).encode()


@contextmanager
def serving(behave: Behaviour) -> Iterator[FaultyServer]:
    """Serve on an ephemeral loopback port until the block ends."""
    with running(FaultyServer(behave)) as server:
        yield server
