"""The comparisons that a leaderboard is read for: which systems, on which questions, by which measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from zrag_core.evaluation.comparison import Comparison, compare
from zrag_core.evaluation.leaderboard import ALL_TYPES
from zrag_core.evaluation.metrics import compared_metrics
from zrag_core.systems import MEMORY_SYSTEM, REFERENCE_SYSTEM, in_family

# Splits whose facts nobody trained on, and the types of question that a result is quoted for.
SPLITS = ("test", "new_documents")
TYPES = (ALL_TYPES, "single", "two_hop", "vague")
COLUMNS = (
    "corpus_version",
    "split",
    "question_type",
    "budget",
    "reader",
    "measure",
    "system",
    "reference",
    "difference",
    "low",
    "high",
    "confidence",
    "p_value",
    "p_adjusted",
    "mcnemar_p",
    "n_questions",
    "n_left_out",
    "n_documents",
    "verdict",
)


def references(systems: Sequence[str], chosen: str | None = None) -> tuple[str, ...]:
    """The systems that all others are compared with, the main one first.

    Args:
        systems: those evaluated, in their order.
        chosen: the main reference; left out, `REFERENCE_SYSTEM`, which fills a budget sentence by sentence as the
            memory does, else the first retrieval baseline.

    Returns:
        The main reference and, beside it, `MEMORY_SYSTEM`; the first system where neither was evaluated.
    """
    baselines = [system for system in systems if in_family(system, "retrieval")]
    main = chosen or (REFERENCE_SYSTEM if REFERENCE_SYSTEM in baselines else next(iter(baselines), None))
    memory = MEMORY_SYSTEM if MEMORY_SYSTEM in systems else None
    found = tuple(dict.fromkeys(system for system in (main, memory) if system))
    return found or tuple(systems[:1])


def headline_comparisons(
    scores: pd.DataFrame,
    *,
    references: Sequence[str],
    answer_budget: int,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every system with the references, on the held-out questions.

    Evidence (reader `none`) is compared by the registered metrics that are compared: those of the ranking, which no
    budget changes, once, under the answered budget; those of the evidence (answer coverage) at the answered and the
    smallest budget. Answers are compared at the answered budget by the metrics of the answer that have values. Systems
    that were not asked there, or share no question with a reference, are left out.

    Args:
        scores: rows of the table `scores`.
        references: as from `references`; those without rows are passed over.
        answer_budget: evidence tokens that were answered from.
        confidence: level of intervals and verdicts.
        seed: of the resamples.

    Returns:
        One row per corpus version, split, question type, budget, reader, measure, system and reference, `COLUMNS`.
        `difference`, `low` and `high` are shares as the measures are, system minus reference. `p_adjusted` is Holm's
        over all pairs of the row's measure and questions, of both references.
    """
    rows: list[dict[str, Any]] = []
    for key, group, budget, measure in _families(scores, answer_budget):
        values = {
            system: dict(zip(own["question_id"], own[measure].astype(float), strict=True))
            for system, own in group.dropna(subset=[measure]).groupby("system", sort=False)
        }
        against, kept = _comparable(values, references)
        if len(kept) < 2:
            continue
        clusters = dict(zip(group["question_id"], group["cluster"], strict=True))
        found = compare(kept, clusters, measure=measure, references=against, confidence=confidence, seed=seed)
        # Where a pair stands for both references it was compared once; either finds its rows complete.
        found += [comparison.mirrored() for comparison in found if comparison.system in against]
        rows += [{**key, "budget": budget, "measure": measure, **_row(comparison)} for comparison in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _families(scores: pd.DataFrame, answer_budget: int) -> Iterator[tuple[dict[str, Any], pd.DataFrame, int, str]]:
    """Rows that are compared together: constant columns, the rows, their budget and the measure."""
    rows = scores[scores["split"].isin(SPLITS)]
    for (version, split, reader), group in rows.groupby(["corpus_version", "split", "reader"], sort=False):
        ranking, evidence, answer = ([m.name for m in compared_metrics(of)] for of in ("ranking", "evidence", "answer"))
        answered = [name for name in answer if name in group and group[name].notna().any()]
        wanted = [(answer_budget, name) for name in answered or ranking]
        if not answered:
            budgets = sorted({int(group["budget"].min()), answer_budget})
            wanted += [(budget, name) for name in evidence for budget in budgets]
        for kind in TYPES:
            of_type = group if kind == ALL_TYPES else group[group["question_type"] == kind]
            key = {"corpus_version": version, "split": split, "question_type": kind, "reader": reader}
            for budget, measure in wanted:
                yield key, of_type[of_type["budget"] == budget], budget, measure


def _comparable(
    values: Mapping[str, Mapping[str, float]], references: Sequence[str]
) -> tuple[list[str], dict[str, Mapping[str, float]]]:
    """The references that have values, and the systems that share a question with each of them."""
    against: list[str] = []
    for reference in references:
        if reference in values and all(values[reference].keys() & values[other].keys() for other in against):
            against.append(reference)
    kept = {
        system: own
        for system, own in values.items()
        if all(own.keys() & values[reference].keys() for reference in against)
    }
    return against, kept if against else {}


def _row(comparison: Comparison) -> dict[str, Any]:
    return {
        "system": comparison.system,
        "reference": comparison.other,
        "difference": comparison.difference / 100,
        "low": comparison.low / 100,
        "high": comparison.high / 100,
        "confidence": comparison.confidence,
        "p_value": comparison.p,
        "p_adjusted": comparison.p_holm,
        "mcnemar_p": comparison.p_mcnemar,
        "n_questions": comparison.n_questions,
        "n_left_out": comparison.n_left_out,
        "n_documents": comparison.n_documents,
        "verdict": comparison.verdict(),
    }
