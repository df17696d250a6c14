"""Model: whether the new checkpoint becomes the champion, the one that people ask."""

import dagster as dg

from zrag_pipeline.platform.asset_helpers import PlatformParam, lineage_asset, link, preview
from zrag_pipeline.platform.handles import MemoryHandle, MemoryReportHandle, UpdateReportHandle

GROUP = "model"


@lineage_asset(
    GROUP,
    "pytorch",
    "duckdb",
    "mlflow",
    description="The checkpoint that `zrag ask` answers from. A new one takes the place of the champion only where no "
    "memory check fails and, on the same held-out questions, it is not inferior: the lower bound of the difference in "
    "coverage lies above minus `updates.non_inferiority`. Table `champion_decisions`; alias `champion` in the model "
    "registry. `zrag rollback` takes a promotion back.",
    check_specs=[
        dg.AssetCheckSpec(
            "promoted",
            asset="champion",
            description="The newest checkpoint is the champion. A warning otherwise: the former one stays.",
        )
    ],
)
def champion(
    context: dg.AssetExecutionContext,
    memory: MemoryHandle,
    memory_report: MemoryReportHandle,
    update_report: UpdateReportHandle,
    platform: PlatformParam,
):
    """Compare the new checkpoint with the champion, and move the alias if it passes."""
    import pandas as pd

    from zrag_core.errors import CheckpointError
    from zrag_pipeline.defs.champion.decision import decide, failed_checks
    from zrag_pipeline.defs.champion.promotion import carry_out

    settings, version, run_id = platform.settings, memory.corpus_version, context.run.run_id
    if memory.checkpoint is None:
        context.log.info("policy joint alone: no written memory, so no champion")
        reason = "a memory of the policy joint is no candidate: it cannot be updated"
        return dg.MaterializeResult(
            check_results=[dg.AssetCheckResult(check_name="promoted", passed=True, description=reason)]
        )
    checkpoint_id, corpus = memory.checkpoint.checkpoint_id, platform.warehouse.load_corpus(version)
    if checkpoint_id not in memory_report.checkpoint_ids or update_report.checkpoint_id != checkpoint_id:
        raise CheckpointError(
            f"the memory checks are of other checkpoints than {checkpoint_id}",
            where="asset memory_report or update_report",
            remedy="materialise both again (jobs `train`, `full` and `update_memory` do)",
        )
    runs = [memory_report.run_id, update_report.run_id]
    sections = ["updates", "decoding", "evaluation"]
    with platform.tracked(context, *sections, corpus_version=version) as run:
        failed = failed_checks(platform.warehouse, runs, checkpoint_id)
        decision = decide(memory.checkpoint, failed, corpus, settings, context.log.info)
        asked = context.run.job_name == "ingest"  # what was ingested last is asked
        decision = carry_out(decision, memory.checkpoint, corpus, settings, platform.tracking, default=asked)
        rows = decision.rows(version, settings)
        platform.warehouse.replace_rows("champion_decisions", rows, {"run_id": run_id})
        run.log_metrics(decision.metrics)
    verdict = "champion" if decision.promoted else f"not promoted, {decision.champion_id or 'nobody'} stays"
    context.log.info(f"{checkpoint_id}: {verdict}; {decision.reason}")
    return dg.MaterializeResult(
        metadata={
            "promoted": decision.promoted,
            "reason": decision.reason,
            "checkpoint_id": checkpoint_id,
            "champion_before": decision.champion_id or "none",
            "decision": preview(pd.DataFrame(rows)),
            **link(run),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="promoted",
                passed=decision.promoted and not decision.failed_checks,
                severity=dg.AssetCheckSeverity.WARN,
                description=decision.reason,
            )
        ],
    )


ASSETS = [champion]
