"""The web application over a memory, behind uvicorn in a thread."""

import socket
import threading
import time

import uvicorn

from zrag_core.memory import Memory


class Server:
    """The application behind uvicorn, in a thread."""

    def __init__(self, app):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)

    def stop(self):
        self._server.should_exit = True
        self._thread.join(10)


def opened(folder, **options):
    """Opens the memory of a folder, whatever it is asked for."""
    return lambda _: Memory.open(folder, least_confidence=0.0, device="cpu", threads=1, **options)
