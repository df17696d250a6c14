"""What runs by itself, once it is switched on: sensors that follow the corpus, and a nightly schedule.

All are off by default.
"""

from __future__ import annotations

from zrag_pipeline.defs.automation.sensors import corpus_sensor, evaluate_updates, nightly

SENSORS = [corpus_sensor, evaluate_updates]
SCHEDULES = [nightly]
