"""`make ui`: Dagster (webserver and daemon, so that sensors tick) and MLflow, on loopback only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from zrag_core.errors import ZragError
from zrag_pipeline import paths
from zrag_pipeline.tracking import Tracking

_HOST = "127.0.0.1"


def commands(dagster_port: int, mlflow_port: int, tracking: Tracking) -> dict[str, list[str]]:
    """The two servers' command lines."""
    binaries = Path(sys.executable).parent
    return {
        "mlflow": [
            str(binaries / "mlflow"),
            "server",
            "--backend-store-uri",
            tracking.uri,
            "--artifacts-destination",
            str(paths.mlartifacts_dir()),
            "--host",
            _HOST,
            "--port",
            str(mlflow_port),
            "--workers",
            "1",
        ],
        "dagster": [
            str(binaries / "dagster"),
            "dev",
            "-w",
            str(paths.CHECKOUT / "workspace.yaml"),
            "-h",
            _HOST,
            "-p",
            str(dagster_port),
        ],
    }


def main() -> int:
    """Start both servers, wait for Ctrl-C or for one of them to end, and stop both."""
    dagster_port = int(os.environ.get("ZRAG_DAGSTER_PORT", "3000"))
    mlflow_port = int(os.environ.get("ZRAG_MLFLOW_PORT", "5000"))
    os.environ.setdefault("DAGSTER_HOME", str(paths.dagster_home_dir()))
    # Its job runner starts many workers that nothing here needs.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ.setdefault("ZRAG_MLFLOW_URL", f"http://{_HOST}:{mlflow_port}")
    try:
        tracking = Tracking(paths.data_dir())
        _ = tracking.experiment_id  # creates the store, so that the server has something to show
    except ZragError as error:
        print(f"zrag: {error}", file=sys.stderr)
        return 1
    servers = {}
    for name, command in commands(dagster_port, mlflow_port, tracking).items():
        servers[name] = subprocess.Popen(command, cwd=paths.CHECKOUT)
    print(f"Dagster: http://{_HOST}:{dagster_port}   MLflow: http://{_HOST}:{mlflow_port}   (Ctrl-C stops both)")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = 0
    try:
        while True:
            ended = {name: server.poll() for name, server in servers.items() if server.poll() is not None}
            if ended:
                name, code = next(iter(ended.items()))
                print(f"zrag: {name} ended with code {code}; is its port taken?", file=sys.stderr)
                break
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        for server in servers.values():
            server.send_signal(signal.SIGINT)
        for server in servers.values():
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
    return code


if __name__ == "__main__":
    sys.exit(main())
