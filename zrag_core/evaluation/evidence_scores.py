"""All measures of one question's evidence, as they go into the table `scores`."""

from __future__ import annotations

from collections.abc import Mapping

from zrag_core.corpus.types import Question
from zrag_core.evaluation.coverage import answer_coverage, grounded
from zrag_core.evaluation.retrieval import recall_all_at, recall_at, reciprocal_rank
from zrag_core.evaluation.rouge import rouge_l
from zrag_core.evidence import Retrieved

# Raised whenever a measure changes, so that rows of different meaning are never compared unawares.
METRIC_VERSION = 1


def score_evidence(
    question: Question,
    retrieved: Retrieved,
    evidence_text: str,
    target_text: str | None,
    *,
    documents: Mapping[str, str] | None = None,
) -> dict[str, float | None]:
    """Score what a system handed over for a question.

    Args:
        question: with its gold documents and golden answers.
        retrieved: the system's ranking.
        evidence_text: the evidence as cut to the budget.
        target_text: the evidence target, or None where there is none.
        documents: texts of the corpus by id; without them `grounded` is None.

    Returns:
        recall_at_1, recall_at_5, recall_at_10, recall_all_at_10, reciprocal_rank, rouge_l,
        answer_coverage and grounded; None where a measure is not defined for the question.
    """
    ranked, gold = retrieved.document_ids, question.document_ids
    covered = answer_coverage(evidence_text, question.golden_answers, question.language)
    named = {i: documents[i] for i in ranked if i in documents} if documents is not None else None
    return {
        "recall_at_1": recall_at(1, ranked, gold),
        "recall_at_5": recall_at(5, ranked, gold),
        "recall_at_10": recall_at(10, ranked, gold),
        "recall_all_at_10": recall_all_at(10, ranked, gold),
        "reciprocal_rank": reciprocal_rank(ranked, gold),
        "rouge_l": None if target_text is None else rouge_l(evidence_text, target_text),
        "answer_coverage": None if covered is None else float(covered),
        "grounded": None if named is None else grounded(evidence_text, named),
    }
