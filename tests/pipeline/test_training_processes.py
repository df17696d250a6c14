"""Joint training in processes of its own: what comes of it, what the run shows of it, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import dagster as dg
import psutil
import pytest
import torch
from pipeline_runs import SETTINGS, command_line, config, execute, native_corpus

from zrag_core.model.store.checkpoint import load_checkpoint
from zrag_core.model.store.skill_folder import read_skill_config
from zrag_core.settings import load_settings
from zrag_pipeline.defs.memory.joint_job import JointJob
from zrag_pipeline.defs.memory.skill_job import SkillJob
from zrag_pipeline.platform.file_lock import locked
from zrag_pipeline.platform.handles import BackboneHandle
from zrag_pipeline.platform.tracking import Tracking

STEPS = SETTINGS["joint"]["steps"]
BEFORE = ("preflight", "documents", "questions", "evidence_targets", "evidence_audit", "backbone")


def run(data, *names, instance=None, **joint):
    """Materialise some assets of the policy `joint` alone on a data folder."""
    return execute(
        "train",
        data,
        run_config=config(memory={"policy": "joint"}, evaluation={"systems": ["zrag_joint"]}, joint=joint),
        asset_selection=[dg.AssetKey(name) for name in names],
        instance=instance,
        raise_on_error=False,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data folder with all that joint training needs; only to be read."""
    data = tmp_path_factory.mktemp("prepared") / "자료 1"
    assert run(data, *BEFORE).success
    return data


@pytest.fixture
def data(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "data")


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


def train(data, instance=None, **joint):
    return run(data, "joint_memory", instance=instance, **joint)


def metadata(result):
    (made,) = result.asset_materializations_for_node("joint_memory")
    return made.metadata


def error_of(result):
    """The message of the error that a failed step ended with."""
    (failure,) = (event for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_FAILURE)
    return failure.event_specific_data.error.cause.message.partition(": ")[2].strip()


def trainers(data):
    """The processes that train in a data folder: the launcher, and those that it has started."""
    own = str(data / "checkpoints" / ".training")
    return [one for one in psutil.process_iter(["cmdline"]) if any(own in part for part in one.info["cmdline"] or ())]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def saved_steps(data):
    return [json.loads(path.read_text())["step"] for path in data.glob("checkpoints/.training/[!.]*/state.json")]


# --- what comes of it -----------------------------------------------------------------------------


def test_two_processes_make_the_checkpoint_of_one_and_the_run_shows_how(prepared, data, tmp_path, instance, capfd):
    other = shutil.copytree(prepared, tmp_path / "other")
    result, reference = train(data, instance, processes=2), train(other)
    assert result.success
    made, alone = metadata(result), metadata(reference)
    assert made["checkpoint_id"] == alone["checkpoint_id"], "how many processes train makes it no other checkpoint"
    for name in ("final_loss_evidence", "final_loss_reconstruction", "final_loss_routing", "dev_loss_evidence"):
        assert made[name].value == pytest.approx(alone[name].value, rel=1e-5), name
    z = [load_checkpoint(f / "checkpoints" / made["checkpoint_id"].value).model.z for f in (data, other)]
    assert torch.allclose(*z, atol=3e-5)
    assert list((data / "checkpoints" / ".training").iterdir()) == []
    assert trainers(data) == []

    shown = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any(line.startswith("training in 2 processes of its own; output: ") for line in shown)
    assert any(line.startswith("processes: 2, on cpu") for line in shown)
    assert [line.split()[1] for line in shown if f" of {STEPS}  routing " in line] == ["1", "4", "7", "8"]
    assert f"step {STEPS} of {STEPS}  routing " in capfd.readouterr().err

    tracking = Tracking(data)
    runs = tracking.client.search_runs([tracking.experiment_id], f"tags.`dagster.run_id` = '{result.run_id}'")
    (run,) = (run for run in runs if run.info.run_name == "joint_memory")
    assert run.data.params["joint.processes"] == "2"
    for name in ("loss_evidence", "loss_reconstruction", "loss_routing", "learning_rate", "tokens_per_s"):
        points = tracking.client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in points] == list(range(1, STEPS + 1)), name


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_skill_is_trained_in_two_processes_as_in_one(tmp_path, instance):
    corpus = str(native_corpus(tmp_path / "corpus"))  # calibrated on in seconds
    given = [config(skill={"processes": n, "corpus": corpus}) for n in (2, 0)]
    results = [
        execute("pretrain_tiny", tmp_path / str(n), run_config=one, instance=instance) for n, one in enumerate(given)
    ]
    (made,), (alone,) = (result.asset_materializations_for_node("skill") for result in results)
    assert made.metadata["skill_id"] == alone.metadata["skill_id"]
    for name in ("evidence", "finding", "reconstruction", "routing"):
        name = f"final_loss_{name}"
        assert made.metadata[name].value == pytest.approx(alone.metadata[name].value, rel=1e-4), name
    assert read_skill_config(tmp_path / "0" / "skills" / made.metadata["skill_id"].value)
    shown = [entry.user_message for entry in instance.all_logs(results[0].run_id)]
    assert any(line.startswith("processes: 2, on cpu") for line in shown)
    steps = SETTINGS["skill"]["steps"]
    assert any(line.startswith(f"step {steps} of {steps}  ") for line in shown)


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_killed_group_fails_the_run_with_a_line_and_the_next_run_goes_on(data, instance):
    beside = subprocess.Popen(["sleep", "300"])

    def kill():
        wait_for(lambda: saved_steps(data))
        (leader,) = (one for one in trainers(data) if "accelerate.commands.launch" in one.cmdline())
        assert os.getpgid(leader.pid) == leader.pid != os.getpgid(0), "it leads a group of its own"
        os.killpg(leader.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        failed = train(data, instance, processes=2, steps=3000, save_every=8)
        killer.join()
        assert not failed.success
        assert "\n" not in error_of(failed)
        assert "the training processes ended early, by SIGKILL -> look there for more; the next run" in error_of(failed)
        wait_for(lambda: not trainers(data), 5)
        assert beside.poll() is None
    finally:
        beside.kill()
        beside.wait()

    (half_way,) = saved_steps(data)
    (state,) = (path.parent for path in data.glob("checkpoints/.training/[!.]*/state.json"))
    values = json.loads((state / "state.json").read_text())
    values["step"] = 2996  # the rest would take a minute
    (state / "state.json").write_text(json.dumps(values))
    resumed = train(data, instance, processes=1, steps=3000, save_every=8)
    assert half_way % 8 == 0
    assert resumed.success
    assert metadata(resumed)["resumed_from_step"].value == 2996
    lines = [entry.user_message for entry in instance.all_logs(resumed.run_id)]
    assert "resumed from step 2,996" in lines
    assert saved_steps(data) == []


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=lambda sent: sent.name)
def test_the_group_ends_with_the_run(tmp_path, sent):
    given = config(
        memory={"policy": "joint"},
        evaluation={"systems": ["zrag_joint"]},
        joint={"processes": 2, "steps": 3000, "save_every": 8},
    )
    command, environment = command_line("train", tmp_path, given)
    with (tmp_path / "output").open("w") as output:
        run = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_for(lambda: saved_steps(tmp_path / "data"), 120)
        assert len(trainers(tmp_path / "data")) == 3
        run.send_signal(sent)
        run.wait(timeout=60)
        wait_for(lambda: not trainers(tmp_path / "data"), 20)
    finally:
        run.kill()
        run.wait()


def test_more_processes_than_gpus_are_refused_before_they_are_started(data, instance, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    result = train(data, instance, processes=2)
    assert error_of(result).startswith("joint.processes: 2 processes need a GPU each, and there is 1 -> ")
    assert not list(data.glob("checkpoints/.training/*"))


def test_what_the_processes_refuse_is_the_runs_own_line(data, instance):
    result = train(data, instance, processes=2, seed=5)  # the backbone was made with another seed
    assert not result.success
    told = error_of(result)
    assert told.startswith("asset backbone: the prepared backbone belongs to other settings or another corpus -> ")
    assert "\n" not in told
    assert list(data.glob("checkpoints/.training/processes-*/output.log")), "what was printed is kept"


def test_a_process_ends_when_nobody_waits_for_it(tmp_path):
    code = "import sys, time; from pathlib import Path; from zrag_pipeline.defs.memory import process_member as t; "
    code += "t.end_without(Path(sys.argv[1])); print('ready', flush=True); time.sleep(60)"
    with locked(tmp_path / "lock"):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        assert process.poll() is None
    with process:
        assert process.wait(timeout=10) == 1


# --- what they are made of ------------------------------------------------------------------------


def test_training_processes_load_neither_dagster_nor_mlflow():
    code = "import sys, zrag_pipeline.defs.memory.process_member; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "dagster_pipes" in shown
    assert not {"dagster", "mlflow"} & set(shown)


def test_a_job_is_the_same_after_a_file(tmp_path):
    settings = load_settings(config()["resources"]["settings"]["config"])
    for folder in (None, tmp_path / "뼈대"):
        joint = JointJob(settings, tmp_path / "warehouse.duckdb", "0123", BackboneHandle("abc", folder))
        skill = SkillJob(settings, folder, tmp_path / "skill-1")
        for job in (joint, skill):
            assert type(job).of(json.loads(json.dumps(job.values()))) == job
