"""Answer runs: requests from evidence rows, the reader's answers as rows, and their scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from zrag_core.answering.choice import choose_reader
from zrag_core.answering.types import AnswerRequest
from zrag_core.corpus.sampling import hash_order
from zrag_core.errors import WarehouseError
from zrag_core.settings import Settings
from zrag_pipeline.scoring import NO_READER, answer_score_rows, leaderboard_rows, load_evidence
from zrag_pipeline.systems import refuse_other_questions
from zrag_pipeline.warehouse import Warehouse

_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class AnswerRun:
    """What one answer run produced.

    Attributes:
        frame: rows of the table `answers`.
        estimate: the cost estimate that was printed before anything was sent.
        first_error: the first failed question's error, if any.
    """

    reader: str
    model: str
    frame: pd.DataFrame
    estimate: str
    metrics: dict[str, float]
    first_error: str | None


def answer_evidence(
    settings: Settings,
    warehouse: Warehouse,
    handle: Mapping[str, Any],
    run_id: str,
    environ: Mapping[str, str],
    cache_path: Path,
    log: Callable[[str], None],
) -> AnswerRun:
    """Answer every evaluated question from every system's evidence and store the answers.

    Raises:
        AnsweringError: nothing can be answered at all (wrong key, unreachable server).
        CheckpointError: the corpus' questions have changed since the evidence was made.
    """
    reader = choose_reader(settings.answers, environ, cache_path)
    version = handle["corpus_version"]
    refuse_other_questions(warehouse.load_corpus(version), handle, "evidence")
    requests, budgets = _requests(settings, warehouse, handle)
    estimate = str(reader.estimate(requests))
    log(f"{len(requests):,} questions for reader '{reader.name}': {estimate}")
    began = last = time.monotonic()

    def progress(done: int, total: int, cost: float) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            left = (last - began) / max(1, done) * (total - done)
            log(f"answered {done:,} of {total:,}  {cost:.4f} USD  {left:.0f} s left")

    answers = reader.answer(requests, progress)
    frame = pd.DataFrame([asdict(answer) for answer in answers]).assign(
        run_id=run_id,
        corpus_version=version,
        evidence_run_id=handle["evidence_run_id"],
        budget=budgets,
    )
    warehouse.replace_rows("answers", frame, {"run_id": run_id, "reader": reader.name})
    errors = [answer.error for answer in answers if answer.error]
    metrics = {
        "answers": len(answers),
        "errors": len(errors),
        "cached": sum(answer.cached for answer in answers),
        "cost_usd": sum(answer.cost_usd or 0.0 for answer in answers),
        "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
        "completion_tokens": sum(answer.completion_tokens for answer in answers),
        "seconds": time.monotonic() - began,
    }
    return AnswerRun(reader.name, reader.model, frame, estimate, metrics, errors[0] if errors else None)


def score_answers(
    settings: Settings,
    warehouse: Warehouse,
    answers_handle: Mapping[str, Any],
    scores_handle: Mapping[str, Any],
    run_id: str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score rows and leaderboard rows of an answer run.

    Raises:
        WarehouseError: the answers and the scores belong to different evidence.
    """
    evidence_run = answers_handle["evidence_run_id"]
    if scores_handle["evidence_run_id"] != evidence_run:
        raise WarehouseError(
            "the answers were given from other evidence than the scored one",
            remedy="materialise evidence_scores and answer_runs again",
        )
    answers = warehouse.query(
        "SELECT * FROM answers WHERE run_id = ? AND reader = ?",
        [answers_handle["answers_run_id"], answers_handle["reader"]],
    )
    scores = warehouse.query(
        "SELECT * FROM scores WHERE run_id = ? AND reader = ? AND list_contains(?, budget) ORDER BY rowid",
        [scores_handle["scores_run_id"], NO_READER, answers["budget"].unique().tolist()],
    )
    corpus = warehouse.load_corpus(answers_handle["corpus_version"])
    rows = pd.DataFrame(answer_score_rows(scores, answers, corpus, run_id=run_id))
    frame = leaderboard_rows(rows, load_evidence(warehouse, evidence_run), settings.evaluation, costs=answers)
    return rows, frame


def _requests(
    settings: Settings, warehouse: Warehouse, handle: Mapping[str, Any]
) -> tuple[list[AnswerRequest], list[int]]:
    """What is asked, and the evidence budget of each request."""
    answers = settings.answers
    budgets = list(dict.fromkeys([answers.budget, *answers.curve_budgets]))
    rows = warehouse.query(
        "SELECT e.system, e.budget, e.question_id, e.evidence, q.question, q.language FROM evidence e "
        "JOIN questions q USING (corpus_version, question_id) WHERE e.run_id = ? AND list_contains(?, e.budget) "
        # The headline's budget first, should the money not last.
        "ORDER BY e.budget <> ?, e.rowid",
        [handle["evidence_run_id"], budgets, answers.budget],
    )
    if missing := sorted(set(budgets) - set(rows["budget"])):
        raise WarehouseError(
            f"there is no evidence at a budget of {missing[0]} tokens to answer from",
            where="answers.budget" if missing[0] == answers.budget else "answers.curve_budgets",
            remedy="use one of evaluation.budgets, or materialise system_evidence again",
        )
    if answers.limit_questions is not None:
        order = hash_order(rows["question_id"].unique(), settings.evaluation.seed, "answers")
        rows = rows[rows["question_id"].isin(order[: answers.limit_questions])]
    requests = [
        AnswerRequest(
            row.question_id, row.system, row.question, row.evidence, row.language, row.system == "closed_book"
        )
        for row in rows.itertuples()
    ]
    return requests, rows["budget"].tolist()
