"""Answer runs: requests from evidence rows, the reader's answers and the judge's verdicts as rows, and their scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import pandas as pd

from zrag_core.answering.choice import choose_judge, choose_reader
from zrag_core.answering.judge import Judgement, JudgeRequest, Verdict
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.types import Answer, AnswerRequest, CallObserver, Progress
from zrag_core.corpus.samples import sample_by_split
from zrag_core.corpus.types import Corpus
from zrag_core.errors import WarehouseError
from zrag_core.settings import Settings
from zrag_core.systems import without_evidence
from zrag_pipeline.defs.evaluation.answer_costs import OFFLINE
from zrag_pipeline.defs.evaluation.scores import NO_READER, answer_score_rows, leaderboard_rows, load_evidence
from zrag_pipeline.platform.handles import AnswersHandle, EvidenceHandle, ScoresHandle, refuse_other_questions
from zrag_pipeline.platform.warehouse import Warehouse

_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class AnswerRun:
    """What one answer run produced.

    Attributes:
        frame: rows of the table `answers`.
        judgements: rows of the table `judgements`; empty where no judge was asked.
        estimates: what was said about the costs before anything was sent, by what is paid for.
        first_error: the first failed question's error, if any.
        first_judge_error: the first failed verdict's error, if any.
    """

    reader: str
    model: str
    judge_model: str | None
    frame: pd.DataFrame
    judgements: pd.DataFrame
    estimates: dict[str, str]
    metrics: dict[str, float]
    first_error: str | None
    first_judge_error: str | None

    @property
    def by_model(self) -> bool:
        """Whether a model answered, not the offline stand-in."""
        return self.reader != OFFLINE


@dataclass(frozen=True)
class ModelAccess:
    """How the answering models are reached.

    Attributes:
        environ: where the keys are.
        cache: file of the cache of answers.
        ledger: holds the run's spending limit over answers and verdicts.
        observe: called with every prompt to a model and its completion.
    """

    environ: Mapping[str, str]
    cache: Path
    ledger: SpendingLedger
    observe: CallObserver | None = None


def answer_evidence(
    settings: Settings,
    warehouse: Warehouse,
    evidence: EvidenceHandle,
    run_id: str,
    access: ModelAccess,
    log: Callable[[str], None],
) -> AnswerRun:
    """Answer every evaluated question from every system's evidence, have the answers judged, and store both.

    Answers and verdicts share what the run may still spend; the answers are stored before a verdict is asked for.

    Raises:
        AnsweringError: nothing can be answered or judged at all (wrong key, unreachable server).
        CheckpointError: the corpus' questions have changed since the evidence was made.
    """
    asked = settings.answers
    reader = choose_reader(asked, access.environ, access.cache, ledger=access.ledger, observe=access.observe)
    judge = choose_judge(asked, access.environ, access.cache, ledger=access.ledger, observe=access.observe)
    corpus = warehouse.load_corpus(evidence.corpus_version)
    refuse_other_questions(corpus, evidence, "evidence")
    requests, budgets = _requests(settings, warehouse, evidence)
    estimates = {"answers": str(reader.estimate(requests))}
    log(f"{len(requests):,} questions for reader '{reader.name}': {estimates['answers']}")
    began = time.monotonic()
    answers = reader.answer(requests, _progress("answered", log))
    constants = {"run_id": run_id, "corpus_version": evidence.corpus_version}
    frame = pd.DataFrame([asdict(answer) for answer in answers]).assign(
        **constants, evidence_run_id=evidence.run_id, budget=budgets
    )
    warehouse.replace_rows("answers", frame, {"run_id": run_id, "reader": reader.name})
    judged: list[Judgement] = []
    if judge:
        # Verdicts on the curves' answers would multiply what the judge costs.
        pairs = zip(answers, budgets, strict=True)
        to_judge = _judge_requests(corpus, [answer for answer, budget in pairs if budget == asked.budget])
        estimates["verdicts"] = str(judge.estimate(to_judge))
        log(f"{len(to_judge):,} answers for the judge: {estimates['verdicts']}")
        judged = judge.judge(to_judge, _progress("judged", log))
    judgements = pd.DataFrame([asdict(item) for item in judged], columns=[f.name for f in fields(Judgement)])
    judgements = judgements.assign(**constants, budget=asked.budget, reader=reader.name)
    warehouse.replace_rows("judgements", judgements, {"run_id": run_id, "reader": reader.name})
    metrics = {**_metrics("", answers), **(_judge_metrics(judged) if judge else {})}
    return AnswerRun(
        reader=reader.name,
        model=reader.model,
        judge_model=judge.model if judge else None,
        frame=frame,
        judgements=judgements,
        estimates=estimates,
        metrics={**metrics, "seconds": time.monotonic() - began},
        first_error=next((answer.error for answer in answers if answer.error), None),
        first_judge_error=next((item.error for item in judged if item.error), None),
    )


def answer_checks(made: AnswerRun) -> list[dg.AssetCheckResult]:
    """Whether a model answered, and whether it and the judge answered everything; all only warn."""
    advice = None if made.by_model else "export OPENAI_API_KEY (or set answers.base_url) to ask a model"
    first, first_of_judge = made.first_error or "none", made.first_judge_error or "none"
    judge = {"judge": made.judge_model or "none", "errors": made.metrics.get("judge_errors", 0)}
    results: list[tuple[str, bool, dict[str, Any], str | None]] = [
        ("answered_by_a_model", made.by_model, {"reader": made.reader}, advice),
        ("no_errors", made.metrics["errors"] == 0, {"errors": made.metrics["errors"], "first": first}, None),
        ("no_judge_errors", made.first_judge_error is None, {**judge, "first": first_of_judge}, None),
    ]
    return [
        dg.AssetCheckResult(
            check_name=name,
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN,
            metadata=metadata,
            description=description,
        )
        for name, passed, metadata, description in results
    ]


def _judge_requests(corpus: Corpus, answers: Sequence[Answer]) -> list[JudgeRequest]:
    """What the judge is asked; questions that were not answered are left out."""
    questions = {question.id: question for question in corpus.questions}
    return [
        JudgeRequest(
            answer.question_id, answer.system, asked.question, asked.golden_answers, answer.answer, asked.language
        )
        for answer in answers
        if answer.error is None
        for asked in [questions[answer.question_id]]
    ]


def _metrics(prefix: str, rows: Sequence[Answer | Judgement]) -> dict[str, float]:
    return {
        f"{prefix}answers": len(rows),
        f"{prefix}errors": sum(row.error is not None for row in rows),
        f"{prefix}cached": sum(row.cached for row in rows),
        f"{prefix}cost_usd": sum(row.cost_usd or 0.0 for row in rows),
        f"{prefix}prompt_tokens": sum(row.prompt_tokens for row in rows),
        f"{prefix}completion_tokens": sum(row.completion_tokens for row in rows),
    }


def _judge_metrics(judged: Sequence[Judgement]) -> dict[str, float]:
    verdicts = [item.verdict for item in judged if item.verdict]
    shares = {f"judged_{name}": verdicts.count(name) / len(verdicts) for name in get_args(Verdict) if verdicts}
    return {**_metrics("judge_", judged), **shares}


def _progress(verb: str, log: Callable[[str], None]) -> Progress:
    """Log how far a run is, every few seconds."""
    began = last = time.monotonic()

    def progress(done: int, total: int, cost: float) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            left = (last - began) / max(1, done) * (total - done)
            log(f"{verb} {done:,} of {total:,}  {cost:.4f} USD in all  {left:.0f} s left")

    return progress


def score_answers(
    settings: Settings,
    warehouse: Warehouse,
    answered: AnswersHandle,
    scored: ScoresHandle,
    run_id: str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score rows and leaderboard rows of an answer run.

    Raises:
        WarehouseError: the answers and the scores belong to different evidence.
    """
    evidence_run = answered.evidence.run_id
    if scored.evidence.run_id != evidence_run:
        raise WarehouseError(
            "the answers were given from other evidence than the scored one",
            remedy="materialise evidence_scores and answer_runs again",
        )
    answers = warehouse.query(
        "SELECT * FROM answers WHERE run_id = ? AND reader = ?",
        [answered.run_id, answered.reader],
    )
    scores = warehouse.query(
        "SELECT * FROM scores WHERE run_id = ? AND reader = ? AND list_contains(?, budget) ORDER BY rowid",
        [scored.run_id, NO_READER, answers["budget"].unique().tolist()],
    )
    judgements = warehouse.query(
        "SELECT * FROM judgements WHERE run_id = ? AND reader = ?",
        [answered.run_id, answered.reader],
    )
    corpus = warehouse.load_corpus(answered.evidence.corpus_version)
    rows = pd.DataFrame(answer_score_rows(scores, answers, corpus, run_id=run_id, judgements=judgements))
    evidence = load_evidence(warehouse, evidence_run)
    frame = leaderboard_rows(rows, evidence, settings.evaluation, costs=answers, judge_costs=judgements)
    return rows, frame


def _requests(
    settings: Settings, warehouse: Warehouse, evidence: EvidenceHandle
) -> tuple[list[AnswerRequest], list[int]]:
    """What is asked, and the evidence budget of each request."""
    answers = settings.answers
    budgets = list(dict.fromkeys([answers.budget, *answers.curve_budgets]))
    rows = warehouse.query(
        "SELECT e.system, e.budget, e.question_id, e.evidence, q.question, q.language, q.split FROM evidence e "
        "JOIN questions q USING (corpus_version, question_id) WHERE e.run_id = ? AND list_contains(?, e.budget) "
        # The headline's budget first, should the money not last.
        "ORDER BY e.budget <> ?, e.rowid",
        [evidence.run_id, budgets, answers.budget],
    )
    if missing := sorted(set(budgets) - set(rows["budget"])):
        raise WarehouseError(
            f"there is no evidence at a budget of {missing[0]} tokens to answer from",
            where="answers.budget" if missing[0] == answers.budget else "answers.curve_budgets",
            remedy="use one of evaluation.budgets, or materialise system_evidence again",
        )
    if answers.limit_questions is not None:
        splits = dict(zip(rows["question_id"], rows["split"], strict=True))
        kept = sample_by_split(splits, answers.limit_questions, settings.evaluation.seed, "answers")
        rows = rows[rows["question_id"].isin(kept)]
    requests = [
        AnswerRequest(
            row.question_id, row.system, row.question, row.evidence, row.language, without_evidence(row.system)
        )
        for row in rows.itertuples()
    ]
    return requests, rows["budget"].tolist()
