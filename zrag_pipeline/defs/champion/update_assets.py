"""Model: what an update did to the memory, with proofs."""

import dagster as dg

from zrag_core.model.checks.catalog import UPDATE_CHECKS, judged_figures
from zrag_pipeline.platform.asset_helpers import PlatformParam, lineage_asset, link
from zrag_pipeline.platform.handles import MemoryHandle, UpdateReportHandle

GROUP = "model"


@lineage_asset(
    GROUP,
    "pytorch",
    "duckdb",
    description="An updated checkpoint beside the last champion that was checked: what changed, proofs that the rest "
    "did not and that what was deleted is gone (table `memory_checks`), and how far the corpus has drifted since the "
    "last full run. Where the drift passes a threshold of `updates`, `corpus_sensor` starts a full run.",
    deps=["memory_report"],
    check_specs=[
        dg.AssetCheckSpec(name, asset="update_report", description=figure.description)
        for name, figure in judged_figures(UPDATE_CHECKS).items()
    ],
)
def update_report(
    context: dg.AssetExecutionContext,
    memory: MemoryHandle,
    platform: PlatformParam,
):
    """Prove the update, and measure drift."""
    from dataclasses import asdict

    from zrag_pipeline.defs.champion.drift_baseline import save_baseline
    from zrag_pipeline.defs.champion.update_report import check_results, checks_markdown, report_update

    settings, run_id, version = platform.settings, context.run.run_id, memory.corpus_version
    if memory.checkpoint is None:
        context.log.info(f"nothing was written or updated: {memory.left_out}")
        return dg.MaterializeResult(
            value=UpdateReportHandle(run_id, left_out=memory.left_out), check_results=check_results([])
        )
    with platform.tracked(context, "updates", "decoding", corpus_version=version) as run:
        report = report_update(memory, settings, platform.warehouse, context.log.info)
        rows = [{"run_id": run_id, "checkpoint_id": memory.checkpoint_id, **asdict(c)} for c in report.checks]
        # The rows of this run's memory report stay.
        platform.warehouse.replace_rows("memory_checks", rows, ["run_id", "checkpoint_id", "check_name"])
        if report.baseline is report.state:
            save_baseline(platform.warehouse, report.state, run_id)
        run.log_metrics(report.metrics)
    for reason in report.retrain_reasons:
        context.log.warning(f"a full run should follow: {reason}")
    former = report.former
    return dg.MaterializeResult(
        value=UpdateReportHandle(
            run_id,
            memory.checkpoint_id,
            None if former is None else former.checkpoint_id,
            report.counts,
            report.share_changed,
            report.retrain_reasons,
        ),
        metadata={
            "held_against": former.checkpoint_id if former else "nothing: written afresh, or no change",
            **{f"documents_{name}": n for name, n in report.counts.items()},
            "share_changed": round(report.share_changed, 3),
            "full_run_advised": "; ".join(report.retrain_reasons) or "no",
            "checks": dg.MetadataValue.md(checks_markdown(report.checks)),
            **link(run),
        },
        check_results=check_results(report.checks),
    )


ASSETS = [update_report]
