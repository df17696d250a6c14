"""What runs by itself, once it is switched on: a sensor that watches the corpus, and a nightly schedule.

Both are off by default. They use the configuration file named by `$ZRAG_CONFIG`
(`demo.yaml` in `dagster_home/configs/` where it is not set).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import dagster as dg
import yaml

from zrag_core.errors import ZragError
from zrag_core.settings import Settings
from zrag_pipeline.jobs import full, run_config
from zrag_pipeline.settings_resource import SettingsHandle


def _config_name() -> str:
    return os.environ.get("ZRAG_CONFIG") or "demo.yaml"


def _settings(config: Mapping[str, Any]) -> Settings:
    """The settings of a run configuration, read as a run reads them."""
    resource = (config.get("resources") or {}).get("settings") or {}
    return SettingsHandle(resource.get("config") or {}).load()


@dg.sensor(
    job=full,
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=60,
    description="Starts the job `full` when the content of the corpus changes, also when it changes back to an "
    "earlier state. The corpus is the one of $ZRAG_CONFIG (default demo.yaml).",
)
def corpus_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Compare the source's content hash with the one at the last tick."""
    from zrag_core.corpus.source import source_fingerprint

    name = _config_name()
    try:
        config = run_config(name)
        fingerprint = source_fingerprint(_settings(config).corpus)
    except (ZragError, OSError, yaml.YAMLError) as error:
        return dg.SkipReason(f"the corpus of {name} cannot be read: {error}")
    seen = json.loads(context.cursor) if context.cursor else None
    if seen is None:
        cursor = json.dumps({"fingerprint": fingerprint, "changes": 0})
        return dg.SensorResult(
            skip_reason=dg.SkipReason(
                f"watching the corpus of {name} from now on ({fingerprint}); the next change runs"
            ),
            cursor=cursor,
        )
    if seen["fingerprint"] == fingerprint:
        return dg.SkipReason(f"the corpus of {name} is unchanged ({fingerprint})")
    changes = seen["changes"] + 1
    request = dg.RunRequest(
        # A run key deduplicates for ever; the count of changes lets a corpus return to an earlier state.
        run_key=f"{name}:{changes}:{fingerprint}",
        run_config=config,
        tags={"zrag.corpus_fingerprint": fingerprint, "zrag.trigger": "corpus_sensor"},
    )
    context.log.info(f"the corpus of {name} changed: {seen['fingerprint']} -> {fingerprint} (change {changes})")
    return dg.SensorResult(run_requests=[request], cursor=json.dumps({"fingerprint": fingerprint, "changes": changes}))


@dg.schedule(
    job=full,
    cron_schedule="0 3 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every night at three: the whole lineage with $ZRAG_CONFIG (default demo.yaml).",
)
def nightly(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run per night."""
    return dg.RunRequest(run_config=run_config(_config_name()), tags={"zrag.trigger": "nightly"})


SENSORS = [corpus_sensor]
SCHEDULES = [nightly]
