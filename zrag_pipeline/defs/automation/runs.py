"""What the instance knows about the runs that write the memory."""

from __future__ import annotations

import time
from collections.abc import Sequence

import dagster as dg
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunRecord, RunsFilter

from zrag_pipeline.defs.automation.policy import MEMORY_JOBS, UPDATE, Report, RunFacts, RunState
from zrag_pipeline.defs.corpus.state import ASKED_TAG, CORPUS_TAG, READ_TAG
from zrag_pipeline.platform.handle_store import stored_handle
from zrag_pipeline.platform.handles import UpdateReportHandle

CHANGE_TAG = "zrag.change"
GOING = (
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)
_STATES: dict[DagsterRunStatus, RunState] = {
    DagsterRunStatus.SUCCESS: "succeeded",
    DagsterRunStatus.FAILURE: "failed",
    DagsterRunStatus.CANCELED: "cancelled",
}
_ENDED = 100  # newest runs that are looked at; a change is tried a few times at most
_SUBMITTED_S = 600.0


def memory_runs(instance: DagsterInstance, corpus: str) -> list[RunFacts]:
    """Runs that write the memory: all that are going, then the newest of this corpus, those that ended last first."""
    going = filter(_writes_memory, _going(instance))
    ended = instance.get_run_records(RunsFilter(statuses=list(_STATES), tags={CORPUS_TAG: corpus}), limit=_ENDED)
    ended = sorted(filter(_writes_memory, ended), key=lambda record: record.end_time or 0.0, reverse=True)
    return [_facts(record.dagster_run) for record in (*going, *ended)]


def going_runs(instance: DagsterInstance, jobs: Sequence[str]) -> list[DagsterRun]:
    """Runs of some jobs that wait or run."""
    return [record.dagster_run for record in _going(instance) if record.dagster_run.job_name in jobs]


def newest_success(instance: DagsterInstance, job: str) -> DagsterRun | None:
    """The successful run of a job that was made last."""
    runs = instance.get_runs(RunsFilter(job_name=job, statuses=[DagsterRunStatus.SUCCESS]), limit=1)
    return runs[0] if runs else None


def newest_report(runs: Sequence[RunFacts], corpus: str) -> Report | None:
    """What the newest successful update of a corpus reported, if it did."""
    for run in runs:
        if run.job == UPDATE and run.state == "succeeded" and run.corpus == corpus:
            return _read_report(run.run_id)
    return None


def _going(instance: DagsterInstance) -> list[RunRecord]:
    # A run is put into the queue at once after it is made; one that a killed daemon has made and never queued
    # would be waited for in vain.
    made_lately = time.time() - _SUBMITTED_S
    return [
        record
        for record in instance.get_run_records(RunsFilter(statuses=list(GOING)))
        if record.dagster_run.status != DagsterRunStatus.NOT_STARTED
        or record.create_timestamp.timestamp() > made_lately
    ]


def _writes_memory(record: RunRecord) -> bool:
    run = record.dagster_run
    by_hand = run.asset_selection is not None and dg.AssetKey("memory") in run.asset_selection
    return run.job_name in MEMORY_JOBS or by_hand


def _facts(run: DagsterRun) -> RunFacts:
    tags = run.tags
    return RunFacts(
        run.run_id,
        run.job_name,
        _STATES.get(run.status, "going"),
        corpus=tags.get(CORPUS_TAG),
        asked=tags.get(ASKED_TAG),
        read=tags.get(READ_TAG),
        change=tags.get(CHANGE_TAG),
    )


def _read_report(run_id: str) -> Report:
    """The update's own report; one that is not there (pruned, or another version) asks for nothing."""
    report = stored_handle("update_report", UpdateReportHandle, run_id)
    return Report(run_id, () if report is None else report.retrain_reasons)
