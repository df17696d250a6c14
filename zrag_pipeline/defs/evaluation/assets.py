"""Evaluation: evidence from every system, its scores, and the leaderboard."""

import dagster as dg

from zrag_pipeline.platform.asset_helpers import PlatformParam, lineage_asset, link, table_metadata
from zrag_pipeline.platform.handles import (
    CorpusHandle,
    EvidenceHandle,
    IndexHandle,
    MemoryHandle,
    ScoresHandle,
    refuse_other_questions,
)

GROUP = "evaluation"


@lineage_asset(
    GROUP,
    "duckdb",
    "pytorch",
    description="What every system hands over for the evaluated questions, cut to the same evidence budgets: "
    "table `evidence`.",
    check_specs=[
        dg.AssetCheckSpec(
            "complete",
            asset="system_evidence",
            blocking=True,
            description="Every system has a row for every evaluated question and budget.",
        )
    ],
)
def system_evidence(
    context: dg.AssetExecutionContext,
    evidence_targets: CorpusHandle,
    memory: MemoryHandle,
    joint_memory: MemoryHandle,
    bm25_index: IndexHandle,
    dense_index: IndexHandle,
    platform: PlatformParam,
):
    """Ask every configured system the same questions."""
    from zrag_pipeline.defs.evaluation.evidence_run import collect_evidence
    from zrag_pipeline.defs.evaluation.systems import Artefacts

    memories, indexes = {"separated": memory, "joint": joint_memory}, {"bm25": bm25_index, "dense": dense_index}
    sections = "decoding", "baselines", "evaluation", "memorag", "engine"
    with platform.tracked(context, *sections, corpus_version=evidence_targets.corpus_version) as run:
        made = collect_evidence(platform, evidence_targets, Artefacts(memories, indexes), run, context)
    return dg.MaterializeResult(
        value=made.handle,
        metadata={**table_metadata(made.sample, rows=made.n_rows), **made.metadata, **link(run)},
        check_results=[made.complete],
    )


@lineage_asset(
    GROUP,
    "duckdb",
    "mlflow",
    description="Recall, MRR, ROUGE-L, answer coverage and groundedness of every question: table `scores`. "
    "Paired comparisons of the systems: table `comparisons`. MLflow holds one child run per system, with the same "
    "metric names.",
)
def evidence_scores(
    context: dg.AssetExecutionContext,
    system_evidence: EvidenceHandle,
    platform: PlatformParam,
):
    """Score the evidence and aggregate it with bootstrap intervals."""
    import pandas as pd

    from zrag_pipeline.defs.evaluation.comparisons import store_comparisons
    from zrag_pipeline.defs.evaluation.publication import log_systems, store_leaderboard
    from zrag_pipeline.defs.evaluation.scores import NO_READER, leaderboard_rows, load_evidence, score_rows

    settings = platform.settings
    version, run_id = system_evidence.corpus_version, context.run.run_id
    with platform.tracked(context, "corpus", "evaluation", corpus_version=version) as run:
        corpus, targets = platform.warehouse.load_corpus(version), platform.warehouse.load_targets(version)
        refuse_other_questions(corpus, system_evidence, "evidence")
        evidence = load_evidence(platform.warehouse, system_evidence.run_id)
        scores = pd.DataFrame(score_rows(evidence, corpus, targets, run_id=run_id))
        platform.warehouse.replace_rows("scores", scores, {"run_id": run_id, "reader": NO_READER})
        frame = leaderboard_rows(scores, evidence, settings.evaluation)
        store_leaderboard(platform.warehouse, frame, run_id=run_id, readers=[NO_READER])
        store_comparisons(platform.warehouse, scores, settings, run_id=run_id, reader=NO_READER)
        profile = {"questions": int(scores["question_id"].nunique()), "splits": list(settings.evaluation.splits)}
        run.log_dataset(corpus.name, version, profile, source=version, context="evaluation")
        links = log_systems(platform.tracking, run, frame, scores, system_evidence.params)
    return dg.MaterializeResult(
        value=ScoresHandle(system_evidence, run_id),
        metadata={
            **table_metadata(scores.drop(columns=["run_id", "evidence_run_id", "corpus_version"])),
            "metric_version": scores["metric_version"].iloc[0],
            **link(run),
            **links,
        },
    )


@lineage_asset(
    GROUP,
    "duckdb",
    "matplotlib",
    description="The comparison of all systems with 95% intervals: views `leaderboard` and `leaderboard_all`, "
    "a Markdown report, which differences are shown, plots, and an HTML page with examples.",
    check_specs=[
        dg.AssetCheckSpec(
            "memory_routes_like_bm25",
            asset="leaderboard",
            description="Recall@10 of the memory's router is at most 5 points below BM25's (a warning otherwise).",
        )
    ],
)
def leaderboard(
    context: dg.AssetExecutionContext,
    evidence_scores: ScoresHandle,
    platform: PlatformParam,
):
    """Publish the leaderboard as Dagster metadata and MLflow artifacts."""
    from zrag_pipeline.defs.evaluation.comparisons import load_comparisons
    from zrag_pipeline.defs.evaluation.publication import load_leaderboard, publish, publish_comparisons, routing_check
    from zrag_pipeline.defs.evaluation.report_page import publish_report
    from zrag_pipeline.defs.evaluation.scores import NO_READER

    settings = platform.settings
    version = evidence_scores.evidence.corpus_version
    # Not the answers, which the same run may or may not have scored by now; `answer_scores` publishes both.
    stored = [evidence_scores.run_id], [NO_READER]
    frame = load_leaderboard(platform.warehouse, *stored)
    with platform.tracked(context, "evaluation", corpus_version=version) as run:
        metadata = publish(frame, settings.evaluation, run, budget=settings.answers.budget)
        metadata |= publish_comparisons(load_comparisons(platform.warehouse, *stored), settings.evaluation, run)
        metadata |= publish_report(platform.warehouse, settings, evidence_scores, run)
    return dg.MaterializeResult(
        metadata={**metadata, "dagster/row_count": len(frame), **link(run)},
        check_results=[routing_check(frame)],
    )


ASSETS = [system_evidence, evidence_scores, leaderboard]
