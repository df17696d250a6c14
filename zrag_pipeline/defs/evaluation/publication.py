"""Publishes the leaderboard: DuckDB, MLflow runs per system, Markdown and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from zrag_core.evaluation.comparison_report import comparisons_markdown
from zrag_core.evaluation.headline import COLUMNS
from zrag_core.evaluation.leaderboard_report import leaderboard_markdown
from zrag_core.evaluation.metrics import metric_version
from zrag_core.evaluation.plots import leaderboard_plots
from zrag_core.settings import EvaluationSettings
from zrag_core.systems import SYSTEMS
from zrag_pipeline.defs.evaluation.scores import system_metrics
from zrag_pipeline.platform.asset_helpers import image
from zrag_pipeline.platform.mlflow_links import compare_url
from zrag_pipeline.platform.tracking import TrackedRun, Tracking
from zrag_pipeline.platform.warehouse import Warehouse

_TOLERANCE = 0.05


def store_leaderboard(warehouse: Warehouse, frame: pd.DataFrame, *, run_id: str, readers: Sequence[str]) -> None:
    """Replace the leaderboard rows of this run and these readers."""
    stored = frame.drop(columns=[c for c in ("evidence_tokens_low", "evidence_tokens_high") if c in frame])
    stored = stored.assign(run_id=run_id, metric_version=metric_version())
    for reader in readers:
        rows = stored[stored["reader"] == reader]
        warehouse.replace_rows("leaderboard_entries", rows, {"run_id": run_id, "reader": reader})


def load_leaderboard(warehouse: Warehouse, run_ids: Sequence[str], readers: Sequence[str]) -> pd.DataFrame:
    """Leaderboard rows of some runs and readers, in the order they were stored."""
    return warehouse.query(
        "SELECT * FROM leaderboard_entries WHERE list_contains(?, run_id) AND list_contains(?, reader) "
        "ORDER BY created_at, rowid",
        [list(run_ids), list(readers)],
    )


def publish(frame: pd.DataFrame, settings: EvaluationSettings, run: TrackedRun, *, budget: int) -> dict[str, Any]:
    """Write the report and the plots to MLflow and return them as Dagster metadata.

    Args:
        budget: evidence tokens of what is shown at one budget.
    """
    markdown = leaderboard_markdown(frame, systems=settings.systems, confidence=settings.confidence)
    run.log_text(markdown, "leaderboard.md")
    run.log_table(frame.drop(columns=["created_at"], errors="ignore"), "leaderboard")
    metadata: dict[str, Any] = {"leaderboard": dg.MetadataValue.md(markdown)}
    for split in frame["split"].unique():
        for name, png in leaderboard_plots(frame, split, systems=settings.systems, budget=budget).items():
            run.log_figure(png, f"plots/{split}/{name}")
            title = f"{name.removesuffix('.png')} ({split})"
            metadata[title] = image(png, title)
    return metadata


def publish_comparisons(frame: pd.DataFrame, settings: EvaluationSettings, run: TrackedRun) -> dict[str, Any]:
    """Write the comparisons to MLflow as Markdown and CSV and return them as Dagster metadata."""
    markdown = comparisons_markdown(frame, systems=settings.systems)
    run.log_text(markdown, "comparisons.md")
    run.log_text(frame[list(COLUMNS)].to_csv(index=False), "comparisons.csv")
    return {"comparisons": dg.MetadataValue.md(markdown)}


def log_systems(
    tracking: Tracking,
    parent: TrackedRun,
    frame: pd.DataFrame,
    scores: pd.DataFrame,
    params_of: Mapping[str, Mapping[str, Any]],
    **extra: Any,
) -> dict[str, Any]:
    """One child run per system: what it is as parameters, its leaderboard numbers, its questions as a table.

    Measures that depend on the evidence budget are curves whose step is the budget in tokens.

    Args:
        params_of: parameters of each system, see `system_params`.
        extra: parameters that are the same for all.

    Returns:
        Dagster metadata that leads to the comparison of these runs, and to their curves of answer coverage.
    """
    children: list[str] = []
    for system in frame["system"].unique():
        params = {"system": system, "evidence_from": SYSTEMS[system].evidence, **params_of[system], **extra}
        with tracking.child(parent, system, context_tags={"zrag.system": system}, params=params) as child:
            children.append(child.run_id)
            single, curves = system_metrics(frame, system)
            child.log_metrics(single)
            for budget, figures in sorted(curves.items()):
                child.log_metrics(figures, step=budget)
            own = scores[scores["system"] == system]
            columns = [c for c in own.columns if c not in ("run_id", "evidence_run_id", "corpus_version", "system")]
            child.log_table(own[columns], "questions")
    compared = parent.experiment_id, children
    return {
        "mlflow_compare": dg.MetadataValue.url(compare_url(*compared)),
        "mlflow_curves": dg.MetadataValue.url(compare_url(*compared, "answer_coverage")),
    }


def routing_check(frame: pd.DataFrame) -> dg.AssetCheckResult:
    """Whether the memory's router comes within five points of BM25's recall@10."""
    total = frame[(frame["question_type"] == "all")].drop_duplicates(["split", "system"])
    recall = total[total["split"] == total["split"].iloc[0]].set_index("system")["recall_at_10"]
    known = set(recall.dropna().index)
    memory = "zrag" if "zrag" in known else "zrag_joint"
    both = {memory, "bm25"} <= known
    return dg.AssetCheckResult(
        check_name="memory_routes_like_bm25",
        passed=not both or bool(recall[memory] >= recall["bm25"] - _TOLERANCE),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={name: float(recall[name]) for name in (memory, "bm25") if both},
        description=None if both else "no memory and bm25 were both evaluated",
    )
