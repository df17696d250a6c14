"""What runs by itself, once it is switched on: sensors that follow the corpus, and a nightly schedule.

All are off by default. They use the configuration file named by `$ZRAG_CONFIG` (`demo.yaml` in
`dagster_home/configs/` where it is not set).
"""

from __future__ import annotations

from zrag_pipeline.defs.automation.sensors import corpus_sensor, evaluate_updates, nightly

SENSORS = [corpus_sensor, evaluate_updates]
SCHEDULES = [nightly]
