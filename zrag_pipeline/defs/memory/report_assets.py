"""Model: the memory report, which tells where a checkpoint's knowledge is."""

from typing import Any

import dagster as dg

from zrag_core.model.checks.catalog import MEMORY_CHECKS, judged_figures
from zrag_pipeline.platform.asset_helpers import OWNERS, link, table_metadata, tracked
from zrag_pipeline.platform.settings_resource import SettingsHandle
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse

GROUP = "model"


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "duckdb", "matplotlib"},
    code_version="1",
    description="Whether the corpus is in Z and not in theta: checks with held-out questions on every checkpoint, "
    "table `memory_checks`. The figures of policy `joint`, where it is trained, stand beside those of `separated`.",
    check_specs=[
        dg.AssetCheckSpec(name, asset="memory_report", description=f"{figure.description} A warning otherwise.")
        for name, figure in judged_figures(MEMORY_CHECKS).items()
    ],
)
def memory_report(
    context: dg.AssetExecutionContext,
    memory: dict[str, Any],
    joint_memory: dict[str, Any],
    settings: dg.ResourceParam[SettingsHandle],
    warehouse: dg.ResourceParam[Warehouse],
    tracking: dg.ResourceParam[Tracking],
):
    """Run all memory checks on the checkpoints that exist."""
    import pandas as pd

    from zrag_pipeline.defs.memory.memory_report import (
        check_memory,
        check_results,
        check_rows,
        log_memories,
        report_metadata,
    )

    loaded = settings.load()
    run_id = context.run.run_id
    handles = [handle for handle in (memory, joint_memory) if handle["folder"] is not None]
    version = memory["corpus_version"]
    with tracked(context, tracking, loaded, sections=["decoding", "evaluation"], corpus_version=version) as run:
        checked = [
            check_memory(handle, warehouse.load_corpus(handle["corpus_version"]), loaded, context.log.info)
            for handle in handles
        ]
        rows = check_rows(checked)
        warehouse.replace_rows("memory_checks", rows, {"run_id": run_id})
        log_memories(tracking, run, checked)
        metadata = report_metadata(checked)
        run.log_text(metadata["memory_checks"].value, "memory_checks.md")
    return dg.MaterializeResult(
        value={
            "corpus_version": version,
            "memory_checks_run_id": run_id,
            "checkpoint_ids": [item.checkpoint_id for item in checked],
        },
        metadata={**table_metadata(pd.DataFrame(rows)), **metadata, **link(run)},
        check_results=check_results(checked),
    )


ASSETS = [memory_report]
