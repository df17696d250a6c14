"""Dagster's history: previews and messages in events, and what steps printed.

Runs and events stay, with the text cut out of them: deleting the runs that quote a sentence would delete most of
them, and with them what every asset was made from.
"""

from __future__ import annotations

from zrag_core.errors import ZragError
from zrag_pipeline.platform import paths
from zrag_pipeline.purging.erasure import Erasure
from zrag_pipeline.purging.patterns import Patterns
from zrag_pipeline.purging.redaction import redact

_DATABASES = ("history", "schedules")
_TEXTS = ("storage", "logs")


def refuse_running() -> None:
    """Refuse to erase under a run that reads and writes what is erased.

    Raises:
        ZragError: a run is queued or in progress, or the history is kept where it cannot be erased from here.
    """
    home = paths.dagster_home_dir()
    if not (home / "dagster.yaml").exists():
        return
    import dagster as dg
    from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

    from zrag_pipeline.platform.run_processes import fail_lost_runs

    with dg.DagsterInstance.from_config(str(home)) as instance:
        if not isinstance(instance.event_log_storage, SqliteEventLogStorage):
            raise ZragError(
                "Dagster keeps its history elsewhere than in this folder, so it cannot be searched",
                where=str(home / "dagster.yaml"),
                remedy="erase with Dagster's default storage, or wipe that history first",
            )
        fail_lost_runs(instance)
        ended = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
        going = [status for status in dg.DagsterRunStatus if status not in ended]
        runs = instance.get_runs(dg.RunsFilter(statuses=going), limit=1)
    if runs:
        raise ZragError(
            f"the run {runs[0].run_id} of the job `{runs[0].job_name}` is {runs[0].status.value.lower()}",
            where=str(home),
            remedy="wait for its end (or terminate it in the Dagster UI), then repeat the command",
        )


def purge_dagster(patterns: Patterns) -> Erasure:
    """Cut the document out of events and of what steps printed.

    Raises:
        ZragError: a database is in use.
    """
    home = paths.dagster_home_dir()
    databases = [path for name in _DATABASES for path in sorted((home / name).rglob("*.db"))]
    return redact("Dagster", patterns, databases=databases, folders=[home / name for name in _TEXTS])
