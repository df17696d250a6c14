"""Answer coverage: whether a golden answer stands in the evidence."""

from __future__ import annotations

from zrag_core.answer_matching import answer_coverage
from zrag_core.corpus.types import Question
from zrag_core.evaluation.metrics.metric import Metric, Outcome
from zrag_core.evidence import Retrieved, fill_budget


def question_coverage(question: Question, evidence: str) -> bool | None:
    """Whether the evidence covers the question; None where nothing could (yes/no, or no golden answer)."""
    return answer_coverage(evidence, question.golden_answers, question.language)


def coverage_at(question: Question, retrieved: Retrieved, budget: int) -> bool | None:
    """Whether what was retrieved covers the question within a budget of evidence tokens; None where nothing could."""
    return question_coverage(question, fill_budget(retrieved, budget).text)


def _score(outcome: Outcome) -> float | None:
    covered = question_coverage(outcome.question, outcome.evidence)
    return None if covered is None else float(covered)


# Version 2: a change of script ends a word, and Han and Kana are compared sign by sign.
METRICS = (Metric("answer_coverage", "coverage", "evidence", _score, compared="main", version=2),)
