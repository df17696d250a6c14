"""Model: the memory report, which tells where a checkpoint's knowledge is."""

import dagster as dg

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

# The names of `model.checks.thresholds.THRESHOLDS`, which a test holds them against: importing that takes torch.
_CHECKS = {
    "document_top1": "Documents are explained best by their own slots.",
    "reconstruction_rouge_l": "Documents can be rebuilt from their slots alone.",
    "projection_random_top1": "With random projection weights nothing is left of document_top1.",
    "z_shuffle_coverage": "With another document's slots read, routing kept, answers are gone: the facts are in Z.",
    "oracle_routing_coverage": "With the gold document routed, its slots give the answer.",
    "deleted_leak_coverage": "Facts of deleted documents are told no more often than guessing does.",
}


@lineage_asset(
    GROUP,
    "pytorch",
    "duckdb",
    "matplotlib",
    description="Whether the corpus is in Z and not in theta: checks with held-out questions on every checkpoint, "
    "table `memory_checks`. The figures of policy `joint`, where it is trained, stand beside those of `separated`.",
    check_specs=[
        dg.AssetCheckSpec(name, asset="memory_report", description=f"{description} A warning otherwise.")
        for name, description in _CHECKS.items()
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
        check_results=check_results(checked, list(_CHECKS)),
    )


ASSETS = [memory_report]
