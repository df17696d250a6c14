"""Runs whose process is gone are marked as failed; all others are left alone."""

import os
import subprocess
import sys

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.events import EngineEventData
from dagster._core.test_utils import create_run_for_test

from zrag_pipeline.automation import runs
from zrag_pipeline.automation.runs import fail_lost_runs

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
    monkeypatch.setattr(runs, "_CLOCK_S", -1e6)  # as if the run had been seen long before this process began
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

    monkeypatch.setattr(runs, "_lives", ending)
    assert fail_lost_runs(instance) == []
    assert instance.get_run_by_id(run.run_id).status == DagsterRunStatus.SUCCESS
