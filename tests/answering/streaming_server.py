"""An OpenAI-compatible server on loopback that streams what a test says, waits where it says, and breaks off."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from loopback import LoopbackServer, running

CUT = object()
"""Closes the connection in the middle."""
USAGE = {"prompt_tokens": 50, "completion_tokens": 3, "total_tokens": 53}

Item = object
"""Text is a piece of the answer, an event is waited for, a dict is sent as it is, `CUT` closes the connection."""
Behaviour = Callable[[str, int], Iterable[Item] | tuple[int, bytes]]
"""From the user message and how often it was seen before to what is streamed, or to a status and a body."""


class StreamingServer(LoopbackServer):
    def __init__(self, behave: Behaviour, *, usage=USAGE, finish="stop", announced=True):
        super().__init__(_Handler)
        self.behave, self.usage, self.finish, self.announced = behave, usage, finish, announced
        self.seen: Counter[str] = Counter()
        self.bodies: list[dict] = []
        self.left = threading.Event()  # a client has hung up in the middle


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StreamingServer

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        before, server.seen[prompt] = server.seen[prompt], server.seen[prompt] + 1
        server.bodies.append(body)
        items = server.behave(prompt, before)
        if isinstance(items, tuple):
            self._whole(*items)
            return
        self._streaming = body.get("stream")
        if not self._streaming:
            text = "".join(item for item in items if isinstance(item, str))
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": server.finish}
            self._whole(200, json.dumps({"model": "m", "choices": [choice], "usage": server.usage}).encode())
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header(*(("Transfer-Encoding", "chunked") if server.announced else ("Connection", "close")))
        self.end_headers()
        self.close_connection = True
        try:
            self._stream(items)
        except ConnectionError:
            server.left.set()

    def _stream(self, items: Iterable[Item]) -> None:
        server = self.server
        self._choice({"role": "assistant", "content": ""})
        for item in items:
            if item is CUT:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if isinstance(item, threading.Event):
                self._wait(item)
            elif isinstance(item, dict):
                self._send(json.dumps(item))
            else:
                self._choice({"content": item})
        self._choice({}, server.finish)
        if server.usage:
            self._send(json.dumps({"model": "m", "choices": [], "usage": server.usage}))
        self._send("[DONE]")
        if server.announced:
            self.wfile.write(b"0\r\n\r\n")

    def _wait(self, event: threading.Event) -> None:
        """Until the test goes on, or the client has gone."""
        while not event.wait(0.02):
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                raise ConnectionError

    def _choice(self, delta: dict, finish: str | None = None) -> None:
        self._send(json.dumps({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))

    def _send(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event) if self.server.announced else event)

    def _whole(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep test output clean."""


@contextmanager
def streaming(behave: Behaviour, **options) -> Iterator[StreamingServer]:
    """Serve on an ephemeral loopback port until the block ends."""
    with running(StreamingServer(behave, **options)) as server:
        yield server


class Listener:
    """What an answer shows, with the time of each piece."""

    def __init__(self):
        self.pieces: list[str] = []
        self.times: list[float] = []
        self.first = threading.Event()

    def __call__(self, piece: str) -> None:
        self.pieces.append(piece)
        self.times.append(time.monotonic())
        self.first.set()

    @property
    def text(self) -> str:
        return "".join(self.pieces)
