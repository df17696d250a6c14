"""Training that is killed goes on where it was, to the same checkpoint."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import dagster as dg
import pytest
from pipeline_runs import CHECKOUT, command_line, config, execute

from zrag_core.model.store.checkpoint import checkpoint_digest, load_checkpoint

STEPS, SAVE_EVERY = 160, 8
CONFIG = config(joint={"steps": STEPS, "save_every": SAVE_EVERY})


def made_checkpoint(data):
    return Path(
        json.loads((data / "handles" / "joint_memory" / "latest.json").read_text("utf-8"))["checkpoint"]["folder"]
    )


def killed_in_training(folder):
    """Start the job `train`, kill it as soon as it has saved a state, and return that state's folder."""
    command, environment = command_line("train", folder, CONFIG)
    states = folder / "data" / "checkpoints" / ".training"
    output = (folder / "killed.log").open("w+")
    process = subprocess.Popen(
        command, env=environment, cwd=CHECKOUT, stdout=output, stderr=output, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 90
        while not (saved := list(states.glob("[!.]*/state.json"))):
            output.seek(0)
            assert process.poll() is None, output.read()
            assert time.monotonic() < deadline, output.read()
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
        output.close()
    return saved[0].parent


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_killed_training_resumes_to_the_same_checkpoint(lineage, own_lineage, tmp_path, capfd):
    before = made_checkpoint(own_lineage.data)
    state = killed_in_training(tmp_path)
    half_way = json.loads((state / "state.json").read_text())["step"]
    assert half_way % SAVE_EVERY == 0
    assert half_way < STEPS, "it was killed too late to show anything"
    folder = own_lineage.data / "checkpoints" / f"joint-{state.name}"
    assert not folder.exists(), "a checkpoint appears whole or not at all"
    assert made_checkpoint(own_lineage.data) == before

    execute("train", own_lineage.data, run_config=CONFIG)
    text = capfd.readouterr().err
    assert f"resumed from step {half_way:,}" in text
    reported = [int(step) for step in re.findall(rf"step (\d+) of {STEPS}  ", text)]
    assert half_way < min(reported) <= half_way + SAVE_EVERY
    assert max(reported) == STEPS
    assert text.index("resumed from") < text.index(f"step {min(reported)} of")
    assert made_checkpoint(own_lineage.data) == folder

    uninterrupted = tmp_path / "uninterrupted"
    shutil.copytree(lineage.data, uninterrupted)
    execute("train", uninterrupted, run_config=CONFIG, asset_selection=[dg.AssetKey("joint_memory")])
    assert made_checkpoint(uninterrupted).name == folder.name
    assert checkpoint_digest(made_checkpoint(uninterrupted)) == checkpoint_digest(folder)
    assert checkpoint_digest(folder) != checkpoint_digest(before)
    assert len(load_checkpoint(folder).documents) == 12
