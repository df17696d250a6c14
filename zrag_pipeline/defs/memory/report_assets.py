"""Model: the memory report, which tells where a checkpoint's knowledge is."""

import dagster as dg

from zrag_core.model.checks.catalog import MEMORY_CHECKS, judged_figures
from zrag_pipeline.platform.asset_helpers import PlatformParam, lineage_asset, link, table_metadata
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
    platform: PlatformParam,
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

    settings = platform.settings
    run_id = context.run.run_id
    handles = [handle for handle in (memory, joint_memory) if handle.checkpoint is not None]
    version = memory.corpus_version
    with platform.tracked(context, "decoding", "evaluation", corpus_version=version) as run:
        checked = [
            check_memory(handle, platform.warehouse.load_corpus(handle.corpus_version), settings, context.log.info)
            for handle in handles
        ]
        rows = check_rows(checked)
        platform.warehouse.replace_rows("memory_checks", rows, {"run_id": run_id})
        log_memories(platform.tracking, run, checked)
        metadata = report_metadata(checked)
        run.log_text(metadata["memory_checks"].value, "memory_checks.md")
    return dg.MaterializeResult(
        value=MemoryReportHandle(run_id, tuple(item.checkpoint_id for item in checked)),
        metadata={**table_metadata(pd.DataFrame(rows)), **metadata, **link(run)},
        check_results=check_results(checked),
    )


ASSETS = [memory_report]
