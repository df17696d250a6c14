"""The sensors and the schedule.

They use the configuration file named by `$ZRAG_CONFIG`. Where none is, they follow the documents of the memory that
`zrag ingest` made and that is asked by default, or, before there is one, the demo's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from zrag_core.corpus.source import corpus_key
from zrag_core.errors import ZragError
from zrag_core.settings import CorpusSettings, Settings
from zrag_pipeline.defs.automation.policy import MEMORY_JOBS, UPDATE, WHOLE_LINEAGE, Action, Tick, Watch
from zrag_pipeline.defs.automation.runs import (
    CHANGE_TAG,
    going_runs,
    memory_runs,
    newest_report,
    newest_success,
)
from zrag_pipeline.defs.champion.corpus_changes import read_anew
from zrag_pipeline.defs.corpus.state import ASKED_TAG, CORPUS_TAG, corpus_fingerprint, observation
from zrag_pipeline.defs.jobs import evaluate, full, own_config, run_config, update_memory
from zrag_pipeline.platform.champion_file import Champion, read_champion
from zrag_pipeline.platform.checkpoint_documents import checkpoint_backbone
from zrag_pipeline.platform.run_processes import fail_lost_runs
from zrag_pipeline.platform.settings_resource import SettingsHandle


def _watched() -> tuple[str, dict[str, Any]]:
    """The configuration that automation uses, and what it is called.

    That of `$ZRAG_CONFIG`; else that of the memory which `zrag ingest` made and which is asked by default; else the
    demo's.
    """
    name = os.environ.get("ZRAG_CONFIG")
    champion = None if name else read_champion()
    if champion is None or not _was_ingested(champion):
        name = name or "demo.yaml"
        return name, run_config(name)
    read_anew(champion.corpus, Path(champion.source))
    backbone = checkpoint_backbone(champion.folder)
    return f"the memory '{champion.corpus}'", own_config(champion.source, champion.corpus, backbone)


def _was_ingested(champion: Champion) -> bool:
    """Whether its corpus was given a name; other runs have a configuration of their own, which is not known here."""
    return bool(champion.source) and champion.corpus != corpus_key(CorpusSettings(location=champion.source))


def _settings(config: Mapping[str, Any]) -> Settings:
    """The settings of a run configuration, read as a run reads them."""
    resource = (config.get("resources") or {}).get("settings") or {}
    return SettingsHandle(resource.get("config") or {}).load()


@dg.sensor(
    jobs=[update_memory, full],
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=15,
    description="Follows the corpus of $ZRAG_CONFIG (else the documents that `zrag ingest` read): starts "
    "`update_memory` when its content has changed and has been quiet for `updates.settle_seconds`, and `full` when the "
    "last update reports drift, or where the policy `joint` is used, which cannot be updated. One run at a time; a run "
    "that fails is tried twice more. Every tick says why it did what it did.",
)
def corpus_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Look at the corpus and at the runs, and start what is needed."""
    from zrag_core.systems import policies_read

    name = os.environ.get("ZRAG_CONFIG") or "the memory"
    try:
        name, config = _watched()
        settings = _settings(config)
        corpus = corpus_key(settings.corpus)
        content = corpus_fingerprint(settings.corpus)
    except (ZragError, OSError, yaml.YAMLError) as error:
        return dg.SkipReason(f"the corpus of {name} cannot be read: {error}")
    for run in fail_lost_runs(context.instance):
        context.log.warning(f"{run.job_name} (run {run.run_id[:8]}) has no process any more: marked as failed")
    now = time.time()
    runs = memory_runs(context.instance, corpus)
    tick = Tick(
        corpus=corpus,
        name=Path(name).name,
        content=content,
        runs=runs,
        report=newest_report(runs, corpus),
        now=now,
        settle_seconds=settings.updates.settle_seconds,
        # An update leaves the policy joint out, and the evaluation after it would lack that checkpoint.
        updatable=settings.memory.policy == "separated" and "joint" not in policies_read(settings),
    )
    action = tick.action(Watch.from_json(context.cursor, corpus, now))
    return dg.SensorResult(
        run_requests=None if action.job is None else [_request(action, config)],
        skip_reason=dg.SkipReason(action.reason) if action.job is None else None,
        cursor=action.watch.to_json(),
        # What was made from the former content shows as stale.
        asset_events=[observation(content)] if action.noticed else None,
    )


def _request(action: Action, config: dict[str, Any]) -> dg.RunRequest:
    tags = {
        CORPUS_TAG: action.watch.corpus,
        ASKED_TAG: action.watch.content,
        CHANGE_TAG: action.watch.change,
        "zrag.reason": action.reason,
        "zrag.trigger": "corpus_sensor",
    }
    if action.report is not None:
        tags["zrag.report"] = action.report
    return dg.RunRequest(run_key=action.run_key, job_name=action.job, run_config=config, tags=tags)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[update_memory],
    request_job=evaluate,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="After an update of the memory, starts `evaluate` with the same configuration, so that the leaderboard "
    "follows. Several updates in a row are evaluated once, after the last.",
)
def evaluate_updates(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
    """One evaluation for the newest memory."""
    update = context.dagster_run
    # `train` writes a memory too, but evaluates none: the evaluation of this one waits behind it in the queue.
    coming = going_runs(context.instance, (UPDATE, *WHOLE_LINEAGE))
    if coming:
        return dg.SkipReason(f"{coming[0].job_name} (run {coming[0].run_id[:8]}) is still to come: the last one counts")
    newest = newest_success(context.instance, UPDATE)
    if newest is not None and newest.run_id != update.run_id:
        return dg.SkipReason(f"{UPDATE} has succeeded again since (run {newest.run_id[:8]}): the last one counts")
    running = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
    waiting = [run for run in going_runs(context.instance, [evaluate.name]) if run.status not in running]
    if waiting:
        return dg.SkipReason(f"evaluate (run {waiting[0].run_id[:8]}) is queued and will read the newest memory")
    return dg.RunRequest(
        run_key=f"evaluate:{update.run_id}",
        run_config=update.run_config,
        tags={"zrag.trigger": "evaluate_updates", "zrag.reason": f"{UPDATE} (run {update.run_id[:8]}) has succeeded"},
    )


@dg.schedule(
    job=full,
    cron_schedule="0 3 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every night at three: the whole lineage with $ZRAG_CONFIG (else of the documents that `zrag ingest` "
    "read), unless the memory is being written already.",
)
def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run per night."""
    going = going_runs(context.instance, MEMORY_JOBS)
    if going:
        return dg.SkipReason(f"{going[0].job_name} is still running (run {going[0].run_id[:8]}); the next night counts")
    return dg.RunRequest(run_config=_watched()[1], tags={"zrag.trigger": "nightly"})
