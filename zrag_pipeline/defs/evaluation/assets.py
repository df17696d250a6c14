"""Evaluation: evidence from every system, its scores, and the leaderboard."""

from typing import Any

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
    settings: SettingsParam,
    warehouse: WarehouseParam,
    tracking: TrackingParam,
):
    """Ask every configured system the same questions."""
    import pandas as pd

    from zrag_core.answering.ledger import SpendingLedger
    from zrag_core.corpus.samples import evaluated_questions
    from zrag_core.errors import CorpusError
    from zrag_core.memorag.memorag_system import MemoragSystem
    from zrag_pipeline.defs.evaluation.memorag import store_traces
    from zrag_pipeline.defs.evaluation.scores import evidence_rows
    from zrag_pipeline.defs.evaluation.systems import Artefacts, system_inputs, system_params

    loaded = settings.load()
    version, run_id = evidence_targets.corpus_version, context.run.run_id
    corpus, targets = warehouse.load_corpus(version), warehouse.load_targets(version)
    questions = evaluated_questions(corpus, loaded.evaluation)
    if not questions:
        raise CorpusError(
            f"the corpus has no question of the types {', '.join(loaded.evaluation.question_types)} in the splits "
            f"{', '.join(loaded.evaluation.splits)}",
            where="evaluation.splits",
            remedy="evaluate another split or type, raise corpus.limit_documents, or raise corpus.splits.test",
        )
    memories, indexes = {"separated": memory, "joint": joint_memory}, {"bm25": bm25_index, "dense": dense_index}
    artefacts = Artefacts(memories, indexes)
    ledger = SpendingLedger(loaded.answers.max_cost_usd)
    inputs = system_inputs(loaded, corpus, targets, artefacts, ledger)
    n_systems = len(loaded.evaluation.systems)
    budgets = loaded.evaluation.budgets
    extra: dict[str, Any] = {}
    speed: dict[str, float] = {}
    with tracked(
        context, tracking, loaded, sections=["decoding", "baselines", "evaluation", "memorag"], corpus_version=version
    ) as run:
        for number, name in enumerate(loaded.evaluation.systems, 1):
            policy = inputs.spec(name).policy
            checkpoint_id = memories[policy].checkpoint_id if policy else None
            system = inputs.make(name)
            rows, seconds = evidence_rows(
                system, questions, budgets, run_id=run_id, corpus_version=version, checkpoint_id=checkpoint_id
            )
            warehouse.replace_rows("evidence", rows, {"run_id": run_id, "system": name})
            if isinstance(system, MemoragSystem):
                figures, extra = store_traces(warehouse, system, questions, run_id=run_id, version=version)
                run.log_metrics(figures)
            del system  # before the next one is made
            speed[name] = len(questions) / max(seconds, 1e-9)
            context.log.info(
                f"{number} of {n_systems}  {name}: {len(questions):,} questions in {seconds:.1f} s "
                f"({speed[name]:,.0f} per second)"
            )
        run.log_metrics({f"questions_per_s_{name}": value for name, value in speed.items()})
    counts = warehouse.query(
        "SELECT system, budget, count(*) AS questions FROM evidence WHERE run_id = ? GROUP BY ALL ORDER BY ALL",
        [run_id],
    )
    complete = len(counts) == n_systems * len(budgets) and bool((counts["questions"] == len(questions)).all())
    sample = warehouse.query(
        "SELECT system, question_id, evidence, document_ids, latency_ms FROM evidence "
        "WHERE run_id = ? AND budget = ? QUALIFY row_number() OVER (PARTITION BY system ORDER BY question_id) = 1",
        [run_id, min(budgets)],
    )
    return dg.MaterializeResult(
        value=EvidenceHandle(
            version,
            evidence_targets.questions_version,
            run_id,
            checkpoint_ids=artefacts.checkpoint_ids,
            params=system_params(loaded, artefacts),
            spent_usd=ledger.counted_usd,
        ),
        metadata={
            **table_metadata(sample, rows=int(counts["questions"].sum())),
            "questions": len(questions),
            "questions_per_second": dg.MetadataValue.md(
                "\n".join(f"- {name}: {value:,.1f}" for name, value in speed.items())
            ),
            "rows": dg.MetadataValue.md(pd.DataFrame(counts).to_string(index=False).join(["```\n", "\n```"])),
            **extra,
            **{f"checkpoint_{policy}": handle.checkpoint_id or "none" for policy, handle in memories.items()},
            **link(run),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="complete",
                passed=complete,
                metadata={"systems": n_systems, "budgets": len(budgets), "questions": len(questions)},
            )
        ],
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
    settings: SettingsParam,
    warehouse: WarehouseParam,
    tracking: TrackingParam,
):
    """Score the evidence and aggregate it with bootstrap intervals."""
    import pandas as pd

    from zrag_pipeline.defs.evaluation.comparisons import store_comparisons
    from zrag_pipeline.defs.evaluation.publication import log_systems, store_leaderboard
    from zrag_pipeline.defs.evaluation.scores import NO_READER, leaderboard_rows, load_evidence, score_rows

    loaded = settings.load()
    version, run_id = system_evidence.corpus_version, context.run.run_id
    with tracked(context, tracking, loaded, sections=["corpus", "evaluation"], corpus_version=version) as run:
        corpus, targets = warehouse.load_corpus(version), warehouse.load_targets(version)
        refuse_other_questions(corpus, system_evidence, "evidence")
        evidence = load_evidence(warehouse, system_evidence.run_id)
        scores = pd.DataFrame(score_rows(evidence, corpus, targets, run_id=run_id))
        warehouse.replace_rows("scores", scores, {"run_id": run_id, "reader": NO_READER})
        frame = leaderboard_rows(scores, evidence, loaded.evaluation)
        store_leaderboard(warehouse, frame, run_id=run_id, readers=[NO_READER])
        store_comparisons(warehouse, scores, loaded, run_id=run_id, reader=NO_READER)
        profile = {"questions": int(scores["question_id"].nunique()), "splits": list(loaded.evaluation.splits)}
        run.log_dataset(corpus.name, version, profile, source=version, context="evaluation")
        links = log_systems(tracking, run, frame, scores, system_evidence.params)
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
    settings: SettingsParam,
    warehouse: WarehouseParam,
    tracking: TrackingParam,
):
    """Publish the leaderboard as Dagster metadata and MLflow artifacts."""
    from zrag_pipeline.defs.evaluation.comparisons import load_comparisons
    from zrag_pipeline.defs.evaluation.publication import load_leaderboard, publish, publish_comparisons, routing_check
    from zrag_pipeline.defs.evaluation.report_page import publish_report
    from zrag_pipeline.defs.evaluation.scores import NO_READER

    loaded = settings.load()
    version = evidence_scores.evidence.corpus_version
    # Not the answers, which the same run may or may not have scored by now; `answer_scores` publishes both.
    stored = [evidence_scores.run_id], [NO_READER]
    frame = load_leaderboard(warehouse, *stored)
    with tracked(context, tracking, loaded, sections=["evaluation"], corpus_version=version) as run:
        metadata = publish(frame, loaded.evaluation, run, budget=loaded.answers.budget)
        metadata |= publish_comparisons(load_comparisons(warehouse, *stored), loaded.evaluation, run)
        metadata |= publish_report(warehouse, loaded, evidence_scores, run)
    return dg.MaterializeResult(
        metadata={**metadata, "dagster/row_count": len(frame), **link(run)},
        check_results=[routing_check(frame)],
    )


ASSETS = [system_evidence, evidence_scores, leaderboard]
