"""Rows of the tables `evidence`, `scores` and `leaderboard_entries`, made from what the systems hand over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pandas as pd

from zrag_core.corpus.types import Corpus, EvidenceTarget, Question
from zrag_core.evaluation.leaderboard import ALL_TYPES, ESTIMATED_COST, LIST_COST, aggregate
from zrag_core.evaluation.metrics import METRICS, Outcome, metric_version, metrics_of, score
from zrag_core.evidence import EvidenceSystem, evidence_within
from zrag_core.settings import EvaluationSettings
from zrag_pipeline.platform.warehouse import Warehouse

NO_READER = "none"
# What MLflow holds of a system beside the metrics: single figures, figures by evidence budget, and sums over the
# answered budgets.
_LATENCIES = ["latency_p50_ms", "latency_p95_ms"]
_BY_BUDGET = ["evidence_tokens", LIST_COST, ESTIMATED_COST]
_COSTS = ("cost_usd", "judge_cost_usd")


def evidence_rows(
    system: EvidenceSystem, questions: Sequence[Question], budgets: Sequence[int], **constants: Any
) -> tuple[list[dict[str, Any]], float]:
    """Ask a system all questions and cut what it found to every budget.

    Args:
        constants: columns that are the same in every row (run_id, corpus_version, checkpoint_id).

    Returns:
        rows of the table `evidence`, and the seconds the system took.
    """
    began = time.perf_counter()
    found = system.retrieve(questions)
    seconds = time.perf_counter() - began
    rows = []
    for item in found:
        for budget in budgets:
            evidence = evidence_within(system, item, budget)
            rows.append(
                {
                    **constants,
                    "system": system.name,
                    "budget": budget,
                    "question_id": item.question_id,
                    "evidence": evidence.text,
                    "document_ids": list(item.document_ids),
                    "scores": list(item.document_scores),
                    "source_document_ids": [segment.document_id for segment in evidence.segments],
                    "source_start": [segment.start for segment in evidence.segments],
                    "source_end": [segment.end for segment in evidence.segments],
                    "answerable": item.answerable,
                    "confidence": item.confidence,
                    "evidence_tokens": evidence.tokens,
                    "latency_ms": item.latency_ms,
                }
            )
    return rows, seconds


def load_evidence(warehouse: Warehouse, run_id: str) -> pd.DataFrame:
    """The evidence rows of a run, in the order of systems, budgets and questions."""
    return warehouse.query("SELECT * FROM evidence WHERE run_id = ? ORDER BY rowid", [run_id])


def score_rows(
    evidence: pd.DataFrame, corpus: Corpus, targets: Sequence[EvidenceTarget], *, run_id: str
) -> list[dict[str, Any]]:
    """Score evidence per question: rows of the table `scores` with reader `none`."""
    questions = {question.id: question for question in corpus.questions}
    wanted = {target.id: target.evidence for target in targets}
    texts = {document.id: document.text for document in corpus.documents}
    rows = []
    for row in evidence.to_dict("records"):
        question = questions[row["question_id"]]
        target = wanted.get(question.id)
        outcome = Outcome(question, tuple(row["document_ids"]), row["evidence"], target, documents=texts)
        rows.append(
            {
                "run_id": run_id,
                "corpus_version": row["corpus_version"],
                "evidence_run_id": row["run_id"],
                "split": question.split,
                "question_type": question.question_type,
                "system": row["system"],
                "budget": row["budget"],
                "question_id": question.id,
                "reader": NO_READER,
                "cluster": question.document_ids[0] if question.document_ids else question.id,
                **score(outcome, "ranking", "evidence"),
                **{metric.name: None for metric in metrics_of("answer")},
                "metric_version": metric_version(),
            }
        )
    return rows


def answer_score_rows(
    scores: pd.DataFrame,
    answers: pd.DataFrame,
    corpus: Corpus,
    *,
    run_id: str,
    judgements: pd.DataFrame | None = None,
) -> list[dict[str, Any]]:
    """Add the metrics of the answer to the evidence scores of what was answered; failed answers stay unscored.

    Args:
        scores: rows of the table `scores` with reader `none`, at the answered budgets.
        answers: rows of the table `answers`.
        judgements: rows of the table `judgements`, where a judge was asked.
    """
    questions = {question.id: question for question in corpus.questions}
    judged = () if judgements is None else judgements.itertuples()
    verdicts = {(row.system, row.budget, row.question_id): row.verdict for row in judged}
    by_key = {(row["system"], row["budget"], row["question_id"]): row for row in answers.to_dict("records")}
    rows = []
    for row in scores.drop(columns=["created_at", "git_sha", "zrag_version"]).to_dict("records"):
        key = row["system"], row["budget"], row["question_id"]
        answer = by_key.get(key)
        if answer is None:
            continue
        failed, verdict = isinstance(answer["error"], str), verdicts.get(key)
        outcome = Outcome(
            questions[row["question_id"]],
            answer=None if failed else answer["answer"],
            verdict=verdict if isinstance(verdict, str) else None,
        )
        rows.append({**row, "run_id": run_id, "reader": answer["reader"], **score(outcome, "answer")})
    return rows


def leaderboard_rows(
    scores: pd.DataFrame,
    evidence: pd.DataFrame,
    settings: EvaluationSettings,
    costs: pd.DataFrame | None = None,
    judge_costs: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Aggregate score rows to leaderboard rows with intervals.

    Args:
        scores: rows of the table `scores`.
        evidence: rows of the table `evidence` they belong to (tokens and latency).
        costs: rows of the table `answers` (cost), where there are any.
        judge_costs: rows of the table `judgements` (cost), where there are any.
    """
    key = ["system", "budget", "question_id"]
    rows = scores.merge(evidence[[*key, "evidence_tokens", "latency_ms"]], on=key, how="left", validate="many_to_one")
    rows["cost_usd"] = float("nan")
    if costs is not None:
        rows = rows.drop(columns="cost_usd").merge(costs[[*key, "cost_usd"]], on=key, how="left")
    if judge_costs is not None:
        named = judge_costs[[*key, "cost_usd"]].rename(columns={"cost_usd": "judge_cost_usd"})
        rows = rows.merge(named, on=key, how="left")
    return aggregate(rows, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=settings.seed)


def system_metrics(frame: pd.DataFrame, system: str) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
    """Leaderboard numbers of one system, named alike for every system.

    Splits other than `test` and question types are prefixes (`dev/`, `two_hop/`); intervals have one of their own
    (`interval/answer_coverage_64_low`), so that tables and charts are not full of them.

    Args:
        frame: leaderboard rows; where a reader answered, its rows come last and speak for the answers.

    Returns:
        Single figures (`recall_at_1`, `answer_coverage_64`) and, of all question types together, curves by evidence
        budget (64: `answer_coverage`).
    """
    single: dict[str, float] = {}
    curves: dict[int, dict[str, float]] = {}
    for row in frame[frame["system"] == system].to_dict("records"):
        prefix = "" if row["split"] == "test" else f"{row['split']}/"
        total = row["question_type"] == ALL_TYPES
        if not total:
            prefix += f"{row['question_type']}/"
        budget = row["budget"]
        kept = [metric for metric in METRICS.values() if metric.interval and (total or metric.by_type)]
        for name in [metric.column for metric in kept if metric.of == "ranking"] + (_LATENCIES if total else []):
            single[prefix + name] = row[name]
        by_budget = [metric.column for metric in kept if metric.of != "ranking"] + (_BY_BUDGET if total else [])
        for name in by_budget:
            if pd.isna(row.get(name)):
                continue
            single[f"{prefix}{name}_{budget}"] = row[name]
            if total:
                curves.setdefault(budget, {})[prefix + name] = row[name]
            if total and f"{name}_low" in row:
                for side in ("low", "high"):
                    single[f"interval/{prefix}{name}_{budget}_{side}"] = row[f"{name}_{side}"]
        for name in _COSTS if total else ():
            if pd.notna(row.get(name)):
                single[prefix + name] = single.get(prefix + name, 0.0) + row[name]
    return single, curves
