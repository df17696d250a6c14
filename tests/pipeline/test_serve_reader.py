"""`zrag serve-reader`: it says where it is and how to stop it, and Ctrl-C leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import psutil
import pytest
from answering.tiny_chat_model import instead_of_smollm2
from pipeline_runs import CHECKOUT

from zrag_pipeline.cli import main


@pytest.mark.timeout(120)
def test_it_serves_until_it_is_interrupted(tmp_path):
    instead_of_smollm2(tmp_path)
    command = [sys.executable, "-m", "zrag_pipeline.cli", "serve-reader", "--threads", "1"]
    served = subprocess.Popen(
        command, env=os.environ | {"ZRAG_DATA_DIR": str(tmp_path)}, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    try:
        lines = [served.stdout.readline().strip() for _ in range(4)]
        said = dict(line.split(":", 1) for line in lines)
        address = said["address"].strip()
        assert said["model"].strip() == "SmolLM2-135M-Instruct"
        assert address in said["use"]
        assert str(served.pid) in said["stop"]
        with urllib.request.urlopen(f"{address}/models", timeout=10) as reply:
            assert json.load(reply)["data"][0]["id"] == "SmolLM2-135M-Instruct"
        (server,) = psutil.Process(served.pid).children()
        served.send_signal(signal.SIGINT)
        assert served.wait(timeout=20) == 0
        assert not psutil.pid_exists(server.pid)
    finally:
        served.kill()
        served.wait()


def test_without_the_packages_it_says_how_to_install_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("zrag_core.model.architecture.packaged_llms.PackagedLlm._is_installed", lambda self: False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(["serve-reader"]) == 1
    assert "pip install" in capsys.readouterr().err
