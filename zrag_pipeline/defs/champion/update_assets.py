"""Model: what an update did to the memory, with proofs."""

from typing import Any

import dagster as dg

from zrag_core.model.checks.catalog import UPDATE_CHECKS, judged_figures
from zrag_pipeline.platform.asset_helpers import OWNERS, link, tracked
from zrag_pipeline.platform.settings_resource import SettingsHandle
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse

GROUP = "model"


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "duckdb"},
    code_version="1",
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
    memory: dict[str, Any],
    settings: dg.ResourceParam[SettingsHandle],
    warehouse: dg.ResourceParam[Warehouse],
    tracking: dg.ResourceParam[Tracking],
):
    """Prove the update, and measure drift."""
    from dataclasses import asdict

    from zrag_pipeline.defs.champion.update_report import check_results, checks_markdown, report_update

    loaded, run_id, version = settings.load(), context.run.run_id, memory["corpus_version"]
    common = {"corpus_version": version, "checkpoint_id": memory["checkpoint_id"], "run_id": run_id}
    if memory["folder"] is None:
        context.log.info("policy joint alone: nothing was written or updated")
        return dg.MaterializeResult(
            value={**common, "retrain_reasons": [], "baseline": None}, check_results=check_results([])
        )
    with tracked(context, tracking, loaded, sections=["updates", "decoding"], corpus_version=version) as run:
        report = report_update(memory, loaded, warehouse, context.log.info)
        rows = [{"run_id": run_id, "checkpoint_id": memory["checkpoint_id"], **asdict(c)} for c in report.checks]
        # The rows of this run's memory report stay.
        warehouse.replace_rows("memory_checks", rows, ["run_id", "checkpoint_id", "check_name"])
        run.log_metrics(report.metrics)
    for reason in report.retrain_reasons:
        context.log.warning(f"a full run should follow: {reason}")
    former = report.former
    return dg.MaterializeResult(
        value={
            **common,
            "former_checkpoint_id": former and former["checkpoint_id"],
            **report.counts,
            "share_changed": report.share_changed,
            "retrain_reasons": list(report.retrain_reasons),
            "baseline": asdict(report.baseline),
        },
        metadata={
            "held_against": former["checkpoint_id"] if former else "nothing: written afresh, or no change",
            **{f"documents_{name}": n for name, n in report.counts.items()},
            "share_changed": round(report.share_changed, 3),
            "full_run_advised": "; ".join(report.retrain_reasons) or "no",
            "checks": dg.MetadataValue.md(checks_markdown(report.checks)),
            **link(run),
        },
        check_results=check_results(report.checks),
    )


ASSETS = [update_report]
