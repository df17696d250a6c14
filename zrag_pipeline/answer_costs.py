"""What answering costs by list prices, whatever was paid this time: cached and shared answers count in full."""

from __future__ import annotations

import pandas as pd

from zrag_core.answering.prices import Usage, actual_cost, price_of
from zrag_core.evaluation.leaderboard import ALL_TYPES, LIST_COST
from zrag_pipeline.warehouse import Warehouse

OFFLINE = "offline"
_KEY = ["system", "budget", "reader", "split", "question_type"]


def with_list_costs(frame: pd.DataFrame, warehouse: Warehouse, run_id: str, reader: str) -> pd.DataFrame:
    """Add the column `usd_per_1000` to leaderboard rows: US dollars per 1,000 questions; null for other readers' rows.

    What the table's `cost_usd` says was paid depends on what was cached, and on which of several systems with the same
    evidence was asked first. Models without a list price count as free, as they do in the spending limit.

    Args:
        run_id: of the answer run.
    """
    used = warehouse.query(
        f"SELECT a.system, a.budget, a.reader, q.split, coalesce(q.question_type, '{ALL_TYPES}') AS question_type, "
        "any_value(a.model) AS model, sum(a.prompt_tokens) AS prompt, sum(a.completion_tokens) AS completion, "
        "count(*) AS n FROM answers a JOIN questions q USING (corpus_version, question_id) "
        "WHERE a.run_id = ? AND a.reader = ? AND a.error IS NULL GROUP BY GROUPING SETS "
        "((a.system, a.budget, a.reader, q.split, q.question_type), (a.system, a.budget, a.reader, q.split))",
        [run_id, reader],
    )
    used[LIST_COST] = [_dollars(row.model, row.prompt, row.completion) / row.n * 1000 for row in used.itertuples()]
    return frame.merge(used[[*_KEY, LIST_COST]], on=_KEY, how="left", validate="many_to_one")


def cost_note(frame: pd.DataFrame, reader: str, model: str) -> str:
    """What there is to say about the cost of answering: where it is shown, or why there is nothing to draw."""
    if reader == OFFLINE:
        return (
            "The answers come from the offline extractive stand-in, which costs nothing: there are no curves against "
            "dollars. Export `OPENAI_API_KEY` (or set `answers.base_url`) to ask a model."
        )
    if not (frame[LIST_COST] > 0).any():
        return (
            f"No list price is known for `{model}`: its answers count as free, and no curves against dollars are drawn."
        )
    return (
        "US dollars per 1,000 questions are by list price for the tokens of prompts and answers, cached answers "
        "included: column `usd_per_1000`, plots `coverage_cost` and `f1_cost`. What a system spends on finding "
        "evidence is not in it."
    )


def _dollars(model: str, prompt_tokens: float, completion_tokens: float) -> float:
    price, _ = price_of(model, at_openai=False)
    if price is None:
        raise AssertionError("unreachable: only at OpenAI a price can be unknown")
    return actual_cost(Usage(int(prompt_tokens), int(completion_tokens)), price)
