"""The Dagster code location: `dagster dev -m zrag_pipeline.definitions`.

Loading it imports no torch, transformers or mlflow; those are imported inside the assets.
"""

import dagster as dg

from zrag_pipeline.assets import (
    answers,
    baselines,
    benchmarks,
    champion,
    corpus,
    evaluation,
    evidence,
    memory_report,
    model,
    update_report,
)
from zrag_pipeline.automation import SCHEDULES, SENSORS
from zrag_pipeline.console import console_logger
from zrag_pipeline.jobs import JOBS
from zrag_pipeline.resources import RESOURCES

defs = dg.Definitions(
    assets=[
        *corpus.ASSETS,
        *evidence.ASSETS,
        *model.ASSETS,
        *memory_report.ASSETS,
        *update_report.ASSETS,
        *champion.ASSETS,
        *baselines.ASSETS,
        *evaluation.ASSETS,
        *answers.ASSETS,
        *benchmarks.ASSETS,
    ],
    jobs=JOBS,
    sensors=SENSORS,
    schedules=SCHEDULES,
    resources=RESOURCES,
    loggers={"console": console_logger},
    # Models and indexes are shared between steps by files; one process loads torch once.
    executor=dg.in_process_executor,
)
