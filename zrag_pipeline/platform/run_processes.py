"""The processes in which runs are executed, and the runs that are left behind when theirs is gone."""

from __future__ import annotations

import json
import os
import socket

import dagster as dg
import psutil
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

PROCESS_TAG = ".dagster/zrag_process"  # pages of Dagster do not show tags that begin so
_SERVER_TAG = ".dagster/grpc_info"
_STARTED = "Started process for run"
_CLOCK_S = 60.0


def fail_lost_runs(instance: DagsterInstance) -> list[DagsterRun]:
    """Mark runs as failed whose process is gone (the machine was restarted, or a code server killed), and return them.

    Dagster notices the end of a run's process only while the code server lives that started it, and never that of
    `dagster job execute`; without this, such a run would hold its place in the queue for ever. Processes of other
    machines cannot be seen: only runs are looked at that say they run on this one (asset `preflight`), or that a code
    server on this one has started.
    """
    lost = []
    for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING])):
        process = _own_process(run) or _started_process(instance, run)
        # It may have ended well a moment ago: its state is looked at again once the process is known to be gone.
        if process is None or _lives(*process):
            continue
        now = instance.get_run_by_id(run.run_id)
        if now is not None and not now.is_finished:
            instance.report_run_failed(run, "Its process is gone: it was killed, or the machine was restarted.")
            lost.append(run)
    return lost


def process_tags(run_id: str) -> dict[str, str]:
    """Tags of the run that this process executes: where it is to be looked for."""
    started = psutil.Process().create_time()
    process = {"run": run_id, "host": socket.gethostname(), "pid": os.getpid(), "started": started}
    return {PROCESS_TAG: json.dumps(process)}


def _own_process(run: DagsterRun) -> tuple[int, float] | None:
    """Id of the process that a run says it runs in, and when it was alive; None: unknown, or on another machine."""
    process = json.loads(run.tags.get(PROCESS_TAG, "{}"))
    # A run that is executed again starts with the tags of the former one.
    if process.get("run") != run.run_id or process["host"] != socket.gethostname():
        return None
    return process["pid"], process["started"]


def _started_process(instance: DagsterInstance, run: DagsterRun) -> tuple[int, float] | None:
    """Id of the process that a local code server started for a run, and when it was alive; None: unknown."""
    if "socket" not in json.loads(run.tags.get(_SERVER_TAG, "{}")):
        return None
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.get_dagster_event()
        pid = event.engine_event_data.metadata.get("pid")
        if event.message and event.message.startswith(_STARTED) and pid is not None:
            return int(str(pid.value)), entry.timestamp
    return None


def _lives(process: int, seen: float) -> bool:
    """Whether a process that was alive at a time still is; a later process may have its id."""
    try:
        found = psutil.Process(process)
        return found.create_time() <= seen + _CLOCK_S and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
