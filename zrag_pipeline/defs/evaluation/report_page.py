"""The HTML report of an evaluation: gathered from the warehouse, kept in the data folder and in MLflow."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from zrag_core.evaluation.html_report.page import Evaluation, Plot, report_html
from zrag_core.evaluation.metrics import metric_version
from zrag_core.evaluation.plots import leaderboard_plots
from zrag_core.files import write_text_atomic
from zrag_core.model.checks.memory_plots import memory_plots
from zrag_core.settings import LOCAL_MODEL, Settings
from zrag_core.settings.backbone import TINY
from zrag_core.systems import in_family
from zrag_pipeline.defs.evaluation.answer_costs import with_list_costs
from zrag_pipeline.defs.evaluation.comparisons import load_comparisons
from zrag_pipeline.defs.evaluation.scores import NO_READER
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.handles import ScoresHandle
from zrag_pipeline.platform.provenance import ZRAG_VERSION, git_sha
from zrag_pipeline.platform.tracking import TrackedRun
from zrag_pipeline.platform.warehouse import Warehouse

_PACKAGES = ("torch", "transformers", "peft", "dagster", "mlflow", "duckdb", "rank-bm25")
_ALT = "{}. The figures stand in the tables above."
_MEMORY_ALT = "{}. The figures are in the table memory_checks of the warehouse."


def publish_report(warehouse: Warehouse, settings: Settings, handle: ScoresHandle, run: TrackedRun) -> dict[str, Any]:
    """Write the page of an evaluation, with the answers given to it so far, and return it as Dagster metadata.

    The evidence and its answers share one page, whichever of their assets comes last.

    Args:
        settings: those of this run.
        handle: what `evidence_scores` hands on.
        run: the MLflow run that keeps the page as an artifact.
    """
    page = report_html(_gather(warehouse, settings, handle, run))
    path = paths.report_file(handle.evidence.corpus_version, handle.evidence.run_id)
    write_text_atomic(path, page)
    run.log_text(page, "report.html")
    return {
        "report": dg.MetadataValue.path(path),
        "report_in_mlflow": dg.MetadataValue.url(f"{run.url}/artifacts/report.html"),
    }


def stand_ins(settings: Settings, systems: Collection[str], readers: Collection[str]) -> list[str]:
    """A line for each part that stands in for what the design means, so that nobody takes one for the other.

    Args:
        settings: of the evaluation.
        systems: those evaluated.
        readers: who answered.
    """
    lines = []
    if "offline" in readers:
        lines.append(
            "the answers come from the offline extractive reader, not from an LLM; EM and F1 rank the evidence and say "
            "nothing about ChatGPT"
        )
    if "local" in readers:
        lines.append(
            f"the answers come from {LOCAL_MODEL}, an LLM of 135 million parameters on this machine; EM and F1 say "
            "nothing about ChatGPT"
        )
    if settings.backbone.name == TINY and any(in_family(name, "memory") for name in systems):
        lines.append("the memory's backbone is the embedded zrag-tiny, a model of about a million parameters")
    if settings.baselines.dense_encoder == "lsa" and {"dense", "hybrid"}.intersection(systems):
        lines.append("dense retrieval uses LSA vectors, not a neural encoder")
    return lines


def _gather(warehouse: Warehouse, settings: Settings, handle: ScoresHandle, run: TrackedRun) -> Evaluation:
    version, evidence_run = handle.evidence.corpus_version, handle.evidence.run_id
    runs = _newest_runs(warehouse, handle)
    leaderboard = _leaderboard(warehouse, settings, handle, runs)
    # Where the answers' run is configured otherwise than the evaluation's was, its order still holds for what it names.
    systems = list(dict.fromkeys([*settings.evaluation.systems, *leaderboard["system"]]))
    systems = [name for name in systems if (leaderboard["system"] == name).any()]
    budget = settings.answers.budget
    return Evaluation(
        corpus=warehouse.load_corpus(version),
        corpus_version=version,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seeds=_seeds(settings),
        facts=_facts(settings, evidence_run),
        settings={
            **settings.model_dump(mode="json"),
            "systems": {name: handle.evidence.params[name] for name in systems},
        },
        stand_ins=stand_ins(settings, systems, runs),
        links={"MLflow run": run.url},
        systems=systems,
        budget=budget,
        confidence=settings.evaluation.confidence,
        leaderboard=leaderboard,
        questions=_questions(warehouse, evidence_run, runs, budget),
        comparisons=load_comparisons(warehouse, list(set(runs.values())), list(runs)),
        plots=[
            *_leaderboard_plots(leaderboard, systems, budget),
            *_memory_plots(warehouse, handle.evidence.checkpoint_ids),
        ],
    )


def _newest_runs(warehouse: Warehouse, handle: ScoresHandle) -> dict[str, str]:
    """For each reader the newest run that scored this evidence, the last of them last."""
    frame = warehouse.query(
        "SELECT reader, run_id FROM scores WHERE evidence_run_id = ? AND (reader <> ? OR run_id = ?) "
        "GROUP BY ALL ORDER BY max(created_at), run_id",
        [handle.evidence.run_id, NO_READER, handle.run_id],
    )
    return dict(frame.itertuples(index=False))


def _leaderboard(
    warehouse: Warehouse, settings: Settings, handle: ScoresHandle, runs: Mapping[str, str]
) -> pd.DataFrame:
    """Leaderboard rows of these readers' runs, the answers with their costs by list prices."""
    frames = []
    for reader, run_id in runs.items():
        frame = warehouse.query(
            "SELECT * FROM leaderboard_entries WHERE run_id = ? AND reader = ? ORDER BY rowid", [run_id, reader]
        )
        if reader != NO_READER:
            answered = warehouse.query(
                "SELECT run_id FROM answers WHERE evidence_run_id = ? AND reader = ? ORDER BY created_at DESC LIMIT 1",
                [handle.evidence.run_id, reader],
            )
            frame = with_list_costs(
                frame,
                warehouse,
                answered["run_id"].iloc[0],
                reader,
                model=settings.answers.model,
                params=handle.evidence.params,
            )
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _questions(warehouse: Warehouse, evidence_run: str, runs: Mapping[str, str], budget: int) -> pd.DataFrame:
    """Evidence, scores and the newest reader's answers, one row per system and question."""
    reader = next((name for name in reversed(list(runs)) if name != NO_READER), None)
    return warehouse.query(
        """SELECT evidence.*, scores.answer_coverage, scores.rouge_l, answers.reader, answers.answer, answers.error,
            answered.em, answered.f1, judgements.verdict
        FROM evidence
        JOIN scores ON scores.run_id = $scores_run AND scores.reader = $no_reader
            AND scores.evidence_run_id = evidence.run_id AND scores.system = evidence.system
            AND scores.budget = evidence.budget AND scores.question_id = evidence.question_id
        LEFT JOIN scores AS answered ON answered.run_id = $answers_run AND answered.reader = $reader
            AND answered.evidence_run_id = evidence.run_id AND answered.system = evidence.system
            AND answered.budget = evidence.budget AND answered.question_id = evidence.question_id
        LEFT JOIN answers ON answers.reader = answered.reader AND answers.evidence_run_id = evidence.run_id
            AND answers.system = evidence.system AND answers.budget = evidence.budget
            AND answers.question_id = evidence.question_id
        LEFT JOIN judgements ON judgements.run_id = answers.run_id AND judgements.reader = answers.reader
            AND judgements.system = answers.system AND judgements.budget = answers.budget
            AND judgements.question_id = answers.question_id
        WHERE evidence.run_id = $evidence_run AND evidence.budget = $budget
        QUALIFY row_number() OVER (
            PARTITION BY evidence.system, evidence.question_id ORDER BY answers.created_at DESC) = 1
        ORDER BY evidence.rowid""",
        {
            "scores_run": runs[NO_READER],
            "no_reader": NO_READER,
            "answers_run": None if reader is None else runs[reader],
            "reader": reader,
            "evidence_run": evidence_run,
            "budget": budget,
        },
    )


def _seeds(settings: Settings) -> str:
    seeds = {"training": settings.joint.seed, "evaluation": settings.evaluation.seed}
    if settings.corpus.format == "almanac":
        seeds = {"almanac": settings.corpus.almanac.seed, **seeds}
    return ", ".join(f"{name} {seed}" for name, seed in seeds.items())


def _facts(settings: Settings, evidence_run: str) -> dict[str, str]:
    packages = {"zrag": ZRAG_VERSION, "python": platform.python_version()}
    packages |= {name: metadata.version(name) for name in _PACKAGES}
    return {
        "policy": settings.memory.policy,
        "backbone": settings.backbone.name,
        "commit": git_sha() or "not run from a git checkout",
        "metric version": metric_version(),
        "Dagster run of the evidence": evidence_run,
        "versions": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }


def _leaderboard_plots(frame: pd.DataFrame, systems: Sequence[str], budget: int) -> list[Plot]:
    return [
        _plot(name, split, png, _ALT)
        for split in frame["split"].unique()
        for name, png in leaderboard_plots(frame, split, systems=systems, budget=budget).items()
    ]


def _memory_plots(warehouse: Warehouse, checkpoint_ids: Mapping[str, str | None]) -> list[Plot]:
    """Plots of the newest memory checks of the evaluated checkpoints, where they were run."""
    plots = []
    for policy, checkpoint_id in checkpoint_ids.items():
        checks = warehouse.query(
            "SELECT * FROM memory_checks WHERE checkpoint_id = ? "
            "QUALIFY rank() OVER (ORDER BY created_at DESC, run_id) = 1 ORDER BY rowid",
            [checkpoint_id],
        )
        drawn = memory_plots(checks, np.empty((0, 0)), policy)
        plots += [_plot(name, f"memory, {policy}", png, _MEMORY_ALT) for name, png in drawn.items()]
    return plots


def _plot(file: str, about: str, png: bytes, alt: str) -> Plot:
    title = f"{file.removesuffix('.png').replace('_', ' ').capitalize()} ({about})"
    return Plot(title, alt.format(title), png)
