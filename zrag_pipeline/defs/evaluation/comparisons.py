"""The headline comparisons in the warehouse: table `comparisons`."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from zrag_core.evaluation.headline import headline_comparisons, references
from zrag_core.settings import Settings
from zrag_pipeline.platform.warehouse import Warehouse


def store_comparisons(
    warehouse: Warehouse, scores: pd.DataFrame, settings: Settings, *, run_id: str, reader: str
) -> None:
    """Compare the systems of some score rows and replace the comparisons of this run and reader.

    Args:
        scores: rows of the table `scores` of this reader.
    """
    evaluation = settings.evaluation
    frame = headline_comparisons(
        scores,
        references=references(evaluation.systems, evaluation.reference),
        answer_budget=settings.answers.budget,
        confidence=evaluation.confidence,
        seed=evaluation.seed,
    )
    warehouse.replace_rows("comparisons", frame, {"run_id": run_id, "reader": reader})


def load_comparisons(warehouse: Warehouse, run_ids: Sequence[str], readers: Sequence[str]) -> pd.DataFrame:
    """Comparisons of some runs and readers, in the order they were stored: the main reference first."""
    return warehouse.query(
        "SELECT * FROM comparisons WHERE list_contains(?, run_id) AND list_contains(?, reader) "
        "ORDER BY created_at, rowid",
        [list(run_ids), list(readers)],
    )


def newest_comparisons(warehouse: Warehouse, corpus_version: str) -> pd.DataFrame:
    """Comparisons of one corpus version, of each measure and reader those of the newest run."""
    return warehouse.query(
        "SELECT * FROM comparisons WHERE corpus_version = ? QUALIFY rank() OVER ("
        "PARTITION BY split, question_type, reader, measure ORDER BY created_at DESC, run_id DESC) = 1 "
        "ORDER BY created_at, rowid",
        [corpus_version],
    )
