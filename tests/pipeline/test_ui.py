"""`make ui`: both servers come up, and a signal stops them with everything they started."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pipeline_runs import CHECKOUT


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as reply:
            return reply.status == 200 and b"<html" in reply.read().lower()
    except (urllib.error.URLError, OSError):
        return False


def wait_for(condition, seconds, describe):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, describe()
        time.sleep(0.2)


def processes_with(variable):
    """Process ids whose environment holds `variable` (servers and workers inherit it from `make ui`)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")[:120]))
        except OSError:  # it ended meanwhile
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes through /proc")
def test_both_servers_come_up_and_nothing_stays_behind(own_lineage, tmp_path):
    dagster_port, mlflow_port = free_ports(2)
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((CHECKOUT / "dagster_home" / "dagster.yaml").read_text("utf-8"), "utf-8")
    environment = os.environ | {
        "ZRAG_DATA_DIR": str(own_lineage.data),
        "DAGSTER_HOME": str(home),
        "ZRAG_DAGSTER_PORT": str(dagster_port),
        "ZRAG_MLFLOW_PORT": str(mlflow_port),
    }
    mark = f"ZRAG_DATA_DIR={own_lineage.data}"
    log = tmp_path / "ui.log"
    with log.open("w") as output:
        ui = subprocess.Popen(
            [sys.executable, "-m", "zrag_pipeline.cli", "ui"],
            env=environment,
            cwd=CHECKOUT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for(lambda: answers(mlflow_port) and answers(dagster_port), 90, log.read_text)
        assert ui.poll() is None, log.read_text()
        # The daemon runs sensors and schedules; without it `make ui` would look right and do nothing.
        wait_for(lambda: any("_daemon" in command for _, command in processes_with(mark)), 60, log.read_text)
        # Ctrl-C in a terminal reaches every process of the foreground group at once.
        os.killpg(ui.pid, signal.SIGINT)
        assert ui.wait(timeout=45) == 0, log.read_text()
        wait_for(lambda: not processes_with(mark), 10, lambda: f"left behind: {processes_with(mark)}")
    finally:
        for pid, _ in processes_with(mark):
            os.kill(pid, signal.SIGKILL)
        ui.wait(timeout=10)
    assert not answers(dagster_port)
    assert not answers(mlflow_port)
    assert "Traceback" not in log.read_text()
