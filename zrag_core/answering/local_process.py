"""Starting the server of a local chat model on loopback, and ending it in every case."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from zrag_core.errors import AnsweringError

HOST = "127.0.0.1"
_START_S = 180.0  # reading the weights takes seconds; on a busy machine importing torch takes as long again
_HEALTH_S = 2.0
_MODELS_S = 10.0
# No proxy: the address is this machine's.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class LocalServer:
    """A server that is up.

    Attributes:
        base_url: for `answers.base_url`.
        model: the name that its API knows.
        process: the server; leads a process group of its own.
    """

    base_url: str
    model: str
    process: subprocess.Popen[bytes]


@contextmanager
def serving(
    folder: Path, name: str, *, threads: int, port: int = 0, start_s: float = _START_S
) -> Iterator[LocalServer]:
    """Serve the model in `folder` while the context lasts.

    The server is killed when the context is left, by whatever way, and ends by itself where this process is killed.

    Args:
        name: what the API calls the model.
        threads: CPU threads.
        port: on 127.0.0.1; 0 takes a free one.
        start_s: how long to wait for it.

    Raises:
        AnsweringError: the port is taken, or the server did not start; the message has its last words.
    """
    with tempfile.TemporaryFile() as log, _bound(port) as bound:
        address = f"http://{HOST}:{bound.getsockname()[1]}"
        process = _start(folder, name, threads, bound, log)
        try:
            # The server has a copy. With ours open, connections to a dead server would hang instead of failing.
            bound.close()
            _wait(process, address, log, time.monotonic() + start_s)
            yield LocalServer(f"{address}/v1", name, process)
        finally:
            _end(process)


def refuse_other_models(base_url: str, name: str) -> None:
    """Refuse a server that has not the model `name`, as its answers would be filed under that name.

    Raises:
        AnsweringError: it has other models, or cannot be asked which.
    """
    try:
        with _OPENER.open(f"{base_url.rstrip('/')}/models", timeout=_MODELS_S) as reply:
            served = [str(model["id"]) for model in json.load(reply)["data"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnsweringError(
            f"the server does not say which models it has ({error})",
            where="answers.base_url",
            remedy="start one by `zrag serve-reader`, or leave base_url out",
        ) from error
    if name not in served:
        raise AnsweringError(
            f"the server has not {name}, which the reader 'local' asks, but {', '.join(served) or 'nothing'}",
            where="answers.base_url",
            remedy="ask other models by answers.reader 'openai' and answers.model",
        )


@contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    """A socket that listens on loopback; taken before the server starts, so that nobody else can take the port."""
    try:
        bound = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise AnsweringError(
            f"cannot listen on the port ({reason})",
            where=f"{HOST}:{port}",
            remedy="choose another, or 0 for a free one",
        ) from error
    with bound:
        yield bound


def _start(folder: Path, name: str, threads: int, bound: socket.socket, log: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "zrag_core.answering.local_server", str(folder), "--name", name]
    command += ["--socket", str(bound.fileno()), "--parent", str(os.getpid()), "--threads", str(threads)]
    # OpenMP reads it once; offline: everything is in the folder.
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    # A server of a local model has no use for keys.
    environment = {name: value for name, value in environment.items() if not name.endswith("_API_KEY")}
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,  # its end tells the server that we are gone
        stdout=log,
        stderr=log,
        pass_fds=[bound.fileno()],
        start_new_session=True,  # Ctrl-C reaches us, and we end the server
    )


def _wait(process: subprocess.Popen[bytes], address: str, log: IO[bytes], deadline: float) -> None:
    while not _healthy(address):
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            what = f"ended with code {process.returncode}" if ended else "was not ready in time"
            raise AnsweringError(
                f"the local reader's server {what}: {lines[-1] if lines else 'it said nothing'}",
                where=address,
                remedy="try `zrag serve-reader`, or set answers.reader to 'offline'",
            )
        time.sleep(0.1)


def _healthy(address: str) -> bool:
    try:
        with _OPENER.open(f"{address}/health", timeout=_HEALTH_S) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the server and whatever it started; it keeps nothing that would have to be saved."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()
