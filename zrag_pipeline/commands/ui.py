"""`zrag ui`: Dagster (webserver and daemon, so that sensors tick) and MLflow, on loopback only."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zrag_core.errors import ZragError
from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.commands.dagster_home import prepare_dagster_home
from zrag_pipeline.platform import paths

if TYPE_CHECKING:
    from zrag_pipeline.platform.tracking import Tracking

_HOST = "127.0.0.1"
_SHUTDOWN_S = 20.0
_GROUP_S = 5.0


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    add_command(
        commands,
        "ui",
        run,
        summary="start Dagster and MLflow on this machine",
        description="Start Dagster (webserver and daemon) and MLflow, on loopback only, until Ctrl-C. "
        "$ZRAG_DAGSTER_PORT (3000) and $ZRAG_MLFLOW_PORT (5000) choose other ports.",
        examples=["zrag ui", "ZRAG_DAGSTER_PORT=3001 zrag ui"],
    )


def run(arguments: argparse.Namespace) -> int:
    """Start both servers, wait for Ctrl-C or for one of them to end, and stop both."""
    from zrag_pipeline.platform.tracking import Tracking

    dagster_port = int(os.environ.get("ZRAG_DAGSTER_PORT", "3000"))
    mlflow_port = int(os.environ.get("ZRAG_MLFLOW_PORT", "5000"))
    # Its job runner starts many workers that nothing here needs.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ.setdefault("ZRAG_MLFLOW_URL", f"http://{_HOST}:{mlflow_port}")
    _refuse_taken(dagster_port, "ZRAG_DAGSTER_PORT")
    _refuse_taken(mlflow_port, "ZRAG_MLFLOW_PORT")
    tracking = Tracking(paths.data_dir())
    _ = tracking.experiment_id  # creates the store, so that the server has something to show
    prepare_dagster_home()
    # SIGINT too: a shell that starts this in the background has it ignored, and so would the servers.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    servers: dict[str, subprocess.Popen[bytes]] = {}
    code = 0
    try:
        for name, command in _commands(dagster_port, mlflow_port, tracking).items():
            # A session of its own: Ctrl-C would reach the servers directly and through us, and
            # Dagster, interrupted twice, leaves its daemon behind.
            servers[name] = subprocess.Popen(command, cwd=paths.CHECKOUT, start_new_session=True)
        print(
            f"Dagster: http://{_HOST}:{dagster_port}   MLflow: http://{_HOST}:{mlflow_port}   (Ctrl-C stops both)",
            flush=True,
        )
        code = _wait_for_one_to_end(servers)
    except KeyboardInterrupt:
        pass
    finally:
        _stop(servers.values())
    return code


def _commands(dagster_port: int, mlflow_port: int, tracking: Tracking) -> dict[str, list[str]]:
    """The two servers' command lines."""
    binaries = Path(sys.executable).parent
    mlflow = [str(binaries / "mlflow"), "server", "--host", _HOST, "--port", str(mlflow_port), "--workers", "1"]
    stores = ["--backend-store-uri", tracking.uri, "--artifacts-destination", str(paths.mlartifacts_dir())]
    checkout = paths.CHECKOUT
    code = ["-m", "zrag_pipeline.definitions"] if checkout is None else ["-w", str(checkout / "workspace.yaml")]
    dagster = [str(binaries / "dagster"), "dev", *code, "-h", _HOST, "-p", str(dagster_port)]
    return {"mlflow": [*mlflow, *stores], "dagster": dagster}


def _refuse_taken(port: int, variable: str) -> None:
    """Refuse a port that something else serves; Dagster would silently take another one."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((_HOST, port)) == 0:
            raise ZragError(
                "the port is taken", where=f"{_HOST}:{port}", remedy=f"stop what listens there, or set {variable}"
            )


def _wait_for_one_to_end(servers: Mapping[str, subprocess.Popen[bytes]]) -> int:
    while True:
        for name, server in servers.items():
            if (code := server.poll()) is not None:
                print(f"zrag: {name} ended with code {code}; is its port taken?", file=sys.stderr)
                return code or 1
        time.sleep(0.5)


def _stop(servers: Iterable[subprocess.Popen[bytes]]) -> None:
    """Interrupt both servers, and end what they leave of the processes they started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave them running
    for server in servers:
        server.send_signal(signal.SIGINT)
    for server in servers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=_SHUTDOWN_S)
        for number in (signal.SIGTERM, signal.SIGKILL):
            _end_group(server, number)


def _end_group(server: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to all processes of a server's session that are left, and give them time to end."""
    deadline = time.monotonic() + _GROUP_S
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, number)
        while time.monotonic() < deadline:
            server.poll()
            os.killpg(server.pid, 0)  # raises when none is left
            time.sleep(0.1)
