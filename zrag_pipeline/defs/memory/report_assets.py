"""Model: the memory report, which tells where a checkpoint's knowledge is."""

import dagster as dg

from zrag_core.model.checks.catalog import MEMORY_CHECKS, judged_figures
from zrag_pipeline.platform.asset_helpers import (
    SettingsParam,
    TrackingParam,
    WarehouseParam,
    lineage_asset,
    link,
    table_metadata,
    tracked,
)
from zrag_pipeline.platform.handles import MemoryHandle, MemoryReportHandle

GROUP = "model"


@lineage_asset(
    GROUP,
    "pytorch",
    "duckdb",
    "matplotlib",
    description="Whether the corpus is in Z and not in theta: checks with held-out questions on every checkpoint, "
    "table `memory_checks`. The figures of policy `joint`, where it is trained, stand beside those of `separated`.",
    check_specs=[
        dg.AssetCheckSpec(name, asset="memory_report", description=f"{figure.description} A warning otherwise.")
        for name, figure in judged_figures(MEMORY_CHECKS).items()
    ],
)
def memory_report(
    context: dg.AssetExecutionContext,
    memory: MemoryHandle,
    joint_memory: MemoryHandle,
    settings: SettingsParam,
    warehouse: WarehouseParam,
    tracking: TrackingParam,
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
    handles = [handle for handle in (memory, joint_memory) if handle.checkpoint is not None]
    version = memory.corpus_version
    with tracked(context, tracking, loaded, sections=["decoding", "evaluation"], corpus_version=version) as run:
        checked = [
            check_memory(handle, warehouse.load_corpus(handle.corpus_version), loaded, context.log.info)
            for handle in handles
        ]
        rows = check_rows(checked)
        warehouse.replace_rows("memory_checks", rows, {"run_id": run_id})
        log_memories(tracking, run, checked)
        metadata = report_metadata(checked)
        run.log_text(metadata["memory_checks"].value, "memory_checks.md")
    return dg.MaterializeResult(
        value=MemoryReportHandle(run_id, tuple(item.checkpoint_id for item in checked)),
        metadata={**table_metadata(pd.DataFrame(rows)), **metadata, **link(run)},
        check_results=check_results(checked),
    )


ASSETS = [memory_report]
