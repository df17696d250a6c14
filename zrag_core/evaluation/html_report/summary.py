"""The headline figures of an evaluation, in a few sentences."""

from __future__ import annotations

import pandas as pd

from zrag_core.evaluation.leaderboard_report import COVERAGE, LeaderboardSection, reader_label
from zrag_core.systems import in_family

UNANSWERABLE = "unanswerable"  # the split whose questions ought to be refused
# MemoRAG is made for questions that no single passage answers.
VAGUE, CLUES = "vague", "memorag"


def summary_sentences(
    section: LeaderboardSection, answerable: pd.DataFrame, *, budget: int, confidence: float
) -> list[str]:
    """Tell one split's headline figures.

    Args:
        section: all question types of a split together.
        answerable: a row per system and question of this split, columns system and answerable.
        budget: the evidence budget to speak of.
        confidence: level of the intervals.
    """
    rows = section.by_budget[section.by_budget["budget"] == budget].set_index("system")
    rivals = [name for name in rows.index if not in_family(name, "bound")]
    memory = [name for name in rivals if in_family(name, "memory")][:1]
    others = [name for name in rivals if not in_family(name, "memory")]
    told = [
        f"{section.n_questions:,} question{'s' if section.n_questions != 1 else ''} of the split {section.split} were "
        f"asked of {len(rows)} system{'s' if len(rows) != 1 else ''}."
    ]

    def lead(values: pd.Series) -> list[str]:
        """The first memory and the best of the other systems, of those that have a value."""
        known = values.dropna()
        rest = known[[name for name in others if name in known.index]]
        return [*(name for name in memory if name in known.index), *([rest.idxmax()] if len(rest) else [])]

    if named := lead(rows["answer_coverage"]):
        shares = [f"{_share(rows.loc[name], 'answer_coverage', confidence)} for {name}" for name in named]
        told.append(
            f"With {budget} tokens of evidence, the answer stands in it for {' and '.join(shares)}"
            f"{', the best of the other systems' if memory and len(named) > 1 else ''}."
        )
    if named := lead(rows["recall_at_1"]):
        shares = [f"{_share(rows.loc[name], 'recall_at_1', confidence)} by {name}" for name in named]
        told.append(f"A document that holds the answer is ranked first for {' and '.join(shares)}.")
    for reader, answered in section.answered.groupby("reader", sort=False):
        f1 = answered[answered["budget"] == budget].set_index("system")["f1"]
        shares = [f"{100 * f1[name]:.1f} from {name}" for name in lead(f1)]
        if (ceiling := f1.get("gold_evidence")) is not None:
            shares.append(f"{100 * ceiling:.1f} from the gold evidence, the ceiling")
        if shares:
            told.append(f"Answers by {reader_label(reader)} reach an F1 of {', '.join(shares)}.")
    counts = [(name, answerable.loc[answerable["system"] == name, "answerable"]) for name in rivals]
    refused = {name: int((~own.astype(bool)).sum()) for name, own in counts if len(own)}
    if any(refused.values()) or (refused and section.split == UNANSWERABLE):
        told.append(f"Refused, as not held: {', '.join(f'{count:,} by {name}' for name, count in refused.items())}.")
    return told


def vague_sentences(comparisons: pd.DataFrame, *, budget: int) -> list[str]:
    """Tell whether MemoRAG's advantage appears where it is at home, on vague questions; one sentence per split.

    Args:
        comparisons: rows of the table `comparisons`; may be empty.
        budget: the evidence budget to speak of.
    """
    if comparisons.empty:
        return []
    rows = comparisons[
        (comparisons["question_type"] == VAGUE)
        & (comparisons["system"] == CLUES)
        & (comparisons["measure"] == COVERAGE)
        & (comparisons["budget"] == budget)
    ]
    return [
        f"Vague questions, MemoRAG's home ground ({split}, {own['n_questions'].max():,} questions), coverage at "
        f"{budget} tokens: {'; '.join(own['verdict'])}."
        for split, own in rows.groupby("split", sort=False)
    ]


def _share(row: pd.Series, measure: str, confidence: float) -> str:
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    interval = "" if pd.isna(low) else f" ({100 * confidence:g}% interval {100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * row[measure]:.1f}%{interval}"
