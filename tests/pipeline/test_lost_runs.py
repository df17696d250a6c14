"""Runs whose process is gone are marked as failed; all others are left alone."""

import json
import os
import signal
import subprocess
import sys
import time

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.events import EngineEventData
from dagster._core.test_utils import create_run_for_test
from pipeline_runs import CHECKOUT, command_line, config, execute

from zrag_core.errors import ZragError
from zrag_pipeline.platform import run_processes
from zrag_pipeline.platform.run_processes import PROCESS_TAG, fail_lost_runs, process_tags
from zrag_pipeline.purging.dagster_history import refuse_running

LOCAL = {".dagster/grpc_info": '{"host": "localhost", "socket": "/tmp/server"}'}


@pytest.fixture
def instance():
    with DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="module")
def ended_process():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def made_run(instance, process, *, status="STARTED", tags=LOCAL):
    run = create_run_for_test(instance, "update_memory", status=DagsterRunStatus(status), tags=tags)
    if process is not None:
        message = f"Started process for run (pid: {process})."
        instance.report_engine_event(message, run, EngineEventData.in_process(process))
    return run


@pytest.mark.parametrize("status", ["STARTED", "CANCELING"])
def test_a_run_whose_process_is_gone_has_failed(instance, ended_process, status):
    run = made_run(instance, ended_process, status=status)
    assert [lost.run_id for lost in fail_lost_runs(instance)] == [run.run_id]
    assert instance.get_run_by_id(run.run_id).status == DagsterRunStatus.FAILURE
    (failure,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.PIPELINE_FAILURE)
    assert "Its process is gone" in failure.get_dagster_event().message
    assert fail_lost_runs(instance) == []


def test_a_later_process_of_the_same_id_is_not_the_run(instance, monkeypatch):
    run = made_run(instance, os.getpid())
    assert fail_lost_runs(instance) == []
    monkeypatch.setattr(run_processes, "_CLOCK_S", -1e6)  # as if the run had been seen long before this process began
    assert [lost.run_id for lost in fail_lost_runs(instance)] == [run.run_id]


def test_runs_that_nothing_can_be_said_about_are_left_alone(instance, ended_process):
    made_run(instance, ended_process, tags={})  # `dagster job execute`, perhaps on another machine
    made_run(instance, ended_process, tags={".dagster/grpc_info": '{"host": "elsewhere", "port": 4000}'})
    made_run(instance, None)
    made_run(instance, ended_process, status="STARTING")
    made_run(instance, ended_process, status="SUCCESS")
    assert fail_lost_runs(instance) == []


def test_a_run_that_ends_well_while_it_is_looked_at_stays_as_it_is(instance, ended_process, monkeypatch):
    run = made_run(instance, ended_process)

    def ending(process, seen):
        instance.report_dagster_event(
            dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name, message="done"), run_id=run.run_id
        )
        return False

    monkeypatch.setattr(run_processes, "_lives", ending)
    assert fail_lost_runs(instance) == []
    assert instance.get_run_by_id(run.run_id).status == DagsterRunStatus.SUCCESS


def in_process(instance, process, **changes):
    """A run that says which process it runs in."""
    run = create_run_for_test(instance, "full", status=DagsterRunStatus.STARTED)
    tag = json.loads(process_tags(run.run_id)[PROCESS_TAG]) | {"pid": process} | changes
    instance.add_run_tags(run.run_id, {PROCESS_TAG: json.dumps(tag)})
    return run


def test_a_run_that_no_code_server_started_says_where_it_runs(instance, ended_process):
    in_process(instance, os.getpid())
    in_process(instance, ended_process, host="elsewhere")
    in_process(instance, ended_process, run="the run that this one repeats, with its tags")
    lost = [in_process(instance, ended_process), in_process(instance, os.getpid(), started=time.time() - 1e6)]
    assert {run.run_id for run in fail_lost_runs(instance)} == {run.run_id for run in lost}


def test_a_process_that_ended_and_was_not_waited_for_is_gone(instance):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    try:
        run = in_process(instance, process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert [lost.run_id for lost in fail_lost_runs(instance)] == [run.run_id]
    finally:
        process.wait()


def test_every_run_says_where_it_runs(instance, tmp_path):
    run = execute("full", tmp_path, instance=instance, asset_selection=[dg.AssetKey("preflight")])
    tags = instance.get_run_by_id(run.run_id).tags
    assert {PROCESS_TAG: tags[PROCESS_TAG]} == process_tags(run.run_id)


def test_a_killed_command_blocks_nothing(tmp_path, monkeypatch):
    command, environment = command_line("train", tmp_path, config(skill={"steps": 100_000}))
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    process = subprocess.Popen(
        command, env=environment, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with dg.DagsterInstance.get() as instance:
            deadline = time.monotonic() + 100
            while not any(PROCESS_TAG in run.tags for run in instance.get_runs()):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            with pytest.raises(ZragError, match="is started"):
                refuse_running()
            process.send_signal(signal.SIGKILL)
            process.wait()
            refuse_running()
            assert [run.status for run in instance.get_runs()] == [DagsterRunStatus.FAILURE]
    finally:
        process.kill()
        process.wait()
