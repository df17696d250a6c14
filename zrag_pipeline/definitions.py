"""The Dagster code location: `dagster dev -m zrag_pipeline.definitions`.

Loading it imports no torch, transformers or mlflow; those are imported inside the assets.
"""

import dagster as dg

from zrag_pipeline.defs.answers import assets as answers
from zrag_pipeline.defs.automation import SCHEDULES, SENSORS
from zrag_pipeline.defs.baselines import assets as baselines
from zrag_pipeline.defs.benchmarks import assets as benchmarks
from zrag_pipeline.defs.champion import assets as champion
from zrag_pipeline.defs.champion import update_assets as update_report
from zrag_pipeline.defs.corpus import assets as corpus
from zrag_pipeline.defs.evaluation import assets as evaluation
from zrag_pipeline.defs.evidence import assets as evidence
from zrag_pipeline.defs.jobs import JOBS
from zrag_pipeline.defs.memory import assets as model
from zrag_pipeline.defs.memory import report_assets as memory_report
from zrag_pipeline.platform.config_errors import explain_config_problems
from zrag_pipeline.platform.console import console_logger
from zrag_pipeline.platform.resources import RESOURCES

explain_config_problems()

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
