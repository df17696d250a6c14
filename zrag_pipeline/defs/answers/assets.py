"""Answers: ChatGPT (or the offline stand-in) answers from every system's evidence, and is scored."""

import dagster as dg

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.asset_helpers import PlatformParam, lineage_asset, link, table_metadata
from zrag_pipeline.platform.handles import AnswersHandle, EvidenceHandle, ScoresHandle

GROUP = "answers"


@lineage_asset(
    GROUP,
    "openai",
    "duckdb",
    code_version="2",
    deps=["preflight"],  # also where a job starts here, with what may cost money
    description="One answer per system and question, from the evidence within the answered budget: table `answers`. "
    "Answers are cached by model and prompt, so a repeated or resumed run pays nothing. Without a key the "
    "offline extractive reader stands in, labelled `reader=offline`. With `answers.reader: local`, a small LLM on this "
    "machine answers: its server is started for the run, and stopped. With `answers.judge.model`, an LLM judges every "
    "answer (correct, incorrect, not attempted) within the same spending limit: table `judgements`. Calls to models "
    "are MLflow traces.",
    check_specs=[
        dg.AssetCheckSpec(
            "answered_by_a_model",
            asset="answer_runs",
            description="The answers come from an LLM, not from the offline extractive stand-in (a warning otherwise).",
        ),
        dg.AssetCheckSpec(
            "no_errors", asset="answer_runs", description="Every question was answered (a warning otherwise)."
        ),
        dg.AssetCheckSpec(
            "no_judge_errors",
            asset="answer_runs",
            description="Every answer has a verdict, where a judge was asked (a warning otherwise).",
        ),
    ],
)
def answer_runs(
    context: dg.AssetExecutionContext,
    system_evidence: EvidenceHandle,
    platform: PlatformParam,
):
    """Estimate the cost, answer within the spending limit, and store the answers."""
    import os

    from zrag_pipeline.defs.answers.answer_run import ModelAccess, answer_checks, answer_evidence
    from zrag_pipeline.defs.answers.local_reader import with_local_reader
    from zrag_pipeline.platform.tracing import CallTraces

    settings, run_id = platform.settings, context.run.run_id
    asked, log = settings.answers, context.log
    models = {"answer": asked.answering_model, "judge": asked.judge.model or ""}
    with platform.tracked(context, "answers", corpus_version=system_evidence.corpus_version) as run:
        with CallTraces(platform.tracking, run, model_of=models, limit=asked.max_traces, log=log.warning) as traces:
            access = ModelAccess(os.environ, paths.answer_cache_file(), platform.ledger(context), traces.record)
            with with_local_reader(settings, log.info) as reachable:
                made = answer_evidence(reachable, platform.warehouse, system_evidence, run_id, access, log.info)
        run.log_metrics({**made.metrics, "traces": traces.written})
        run.log_params({"reader": made.reader, "answering_model": made.model, "judge_model": made.judge_model})
        if made.judge_model:
            run.log_table(made.judgements.drop(columns=["run_id", "corpus_version"]), "judgements")
    if not made.by_model:
        context.log.warning(
            "answers come from the offline extractive reader, a stand-in: EM and F1 say nothing about ChatGPT"
        )
    return dg.MaterializeResult(
        value=AnswersHandle(system_evidence, run_id, made.reader, made.model, made.judge_model),
        metadata={
            **table_metadata(made.frame.drop(columns=["run_id", "evidence_run_id", "corpus_version", "prompt_hash"])),
            "reader": made.reader if made.by_model else "offline (extractive stand-in)",
            "model": made.model,
            "judge": made.judge_model or "none",
            **{f"estimate for {what}": text for what, text in made.estimates.items()},
            **made.metrics,
            **link(run),
        },
        check_results=answer_checks(made),
    )


@lineage_asset(
    GROUP,
    "duckdb",
    "mlflow",
    code_version="2",
    description="Exact match and F1 of the answers (SQuAD and KorQuAD rules), and the share that the judge found "
    "correct, beside the evidence measures; the leaderboard, the comparisons and the HTML page with all of them.",
)
def answer_scores(
    context: dg.AssetExecutionContext,
    answer_runs: AnswersHandle,
    evidence_scores: ScoresHandle,
    platform: PlatformParam,
):
    """Score the answers and publish the whole leaderboard."""
    from zrag_pipeline.defs.answers.answer_run import score_answers
    from zrag_pipeline.defs.evaluation.answer_costs import OFFLINE, cost_note, with_list_costs
    from zrag_pipeline.defs.evaluation.comparisons import load_comparisons, store_comparisons
    from zrag_pipeline.defs.evaluation.publication import (
        load_leaderboard,
        log_systems,
        publish,
        publish_comparisons,
        store_leaderboard,
    )
    from zrag_pipeline.defs.evaluation.report_page import publish_report
    from zrag_pipeline.defs.evaluation.scores import NO_READER

    settings = platform.settings
    version, run_id = answer_runs.evidence.corpus_version, context.run.run_id
    reader = answer_runs.reader
    with platform.tracked(context, "evaluation", "answers", corpus_version=version) as run:
        scores, frame = score_answers(settings, platform.warehouse, answer_runs, evidence_scores, run_id)
        platform.warehouse.replace_rows("scores", scores, {"run_id": run_id, "reader": reader})
        store_leaderboard(platform.warehouse, frame, run_id=run_id, readers=[reader])
        store_comparisons(platform.warehouse, scores, settings, run_id=run_id, reader=reader)
        stored = list({evidence_scores.run_id, run_id}), [NO_READER, reader]
        everything = load_leaderboard(platform.warehouse, *stored)
        params = answer_runs.evidence.params
        priced = settings.answers.model
        everything = with_list_costs(
            everything, platform.warehouse, answer_runs.run_id, reader, model=priced, params=params
        )
        links = log_systems(
            platform.tracking,
            run,
            everything,
            scores,
            params,
            reader=reader,
            answering_model=answer_runs.model,
            judge_model=answer_runs.judge_model,
            answer_budget=settings.answers.budget,
        )
        metadata = publish(everything, settings.evaluation, run, budget=settings.answers.budget)
        metadata |= publish_comparisons(load_comparisons(platform.warehouse, *stored), settings.evaluation, run)
        metadata |= publish_report(platform.warehouse, settings, evidence_scores, run)
        priced = priced if reader == OFFLINE else answer_runs.model
        metadata["answering_cost"] = dg.MetadataValue.md(cost_note(everything, reader, priced))
    return dg.MaterializeResult(
        metadata={
            **metadata,
            "dagster/row_count": len(scores),
            "reader": reader,
            **link(run),
            **links,
        },
    )


ASSETS = [answer_runs, answer_scores]
