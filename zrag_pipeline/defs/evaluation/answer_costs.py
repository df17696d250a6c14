"""Costs of answering by list prices, whatever was paid this time: cached and shared answers count in full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from zrag_core.answering.prices import Usage, actual_cost, price_of, prompt_tokens
from zrag_core.answering.prompts import build_messages
from zrag_core.evaluation.leaderboard import ALL_TYPES, ESTIMATED_COST, LIST_COST
from zrag_core.systems import without_evidence
from zrag_core.text import evidence_tokens
from zrag_pipeline.platform.warehouse import Warehouse

OFFLINE = "offline"
_MEMORAG = "memorag"
_KEY = ["system", "budget", "reader", "split", "question_type"]


def with_list_costs(
    frame: pd.DataFrame,
    warehouse: Warehouse,
    run_id: str,
    reader: str,
    *,
    model: str,
    params: Mapping[str, Mapping[str, Any]],
) -> pd.DataFrame:
    """Add US dollars per 1,000 questions to leaderboard rows; null for other readers' rows.

    What the table's `cost_usd` says was paid depends on what was cached, and on which of several systems with the same
    evidence was asked first. Models without a list price count as free, as they do in the spending limit. Drafts and
    clues that MemoRAG asked a paid model for are part of what its answers cost; summaries, made once, are not.

    Column `usd_per_1000` holds what the answers of `reader` cost. The offline reader's cost nothing; beside its rows
    stands, as `estimated_usd_per_1000`, what `model` would cost for the same prompts and answers of the same length.

    Args:
        run_id: of the answer run.
        model: the answering model of the settings.
        params: of each system, see `systems.system_params`; name MemoRAG's light model.
    """
    rows = warehouse.query(
        "SELECT a.system, a.budget, a.reader, a.question_id, a.evidence_run_id, a.model, a.prompt_tokens, "
        "a.completion_tokens, q.question, q.language, q.split, coalesce(q.question_type, $all) AS question_type, "
        "coalesce(a.answer, '') AS answer, coalesce(e.evidence, '') AS evidence "
        "FROM answers a JOIN questions q USING (corpus_version, question_id) LEFT JOIN evidence e ON "
        "e.run_id = a.evidence_run_id AND e.system = a.system AND e.budget = a.budget "
        "AND e.question_id = a.question_id WHERE a.run_id = $run AND a.reader = $reader AND a.error IS NULL",
        {"all": ALL_TYPES, "run": run_id, "reader": reader},
    )
    clues = _clue_dollars(warehouse, rows, params.get(_MEMORAG, {}).get("light_model"))
    found = [clues.get(row.question_id, 0.0) if row.system == _MEMORAG else 0.0 for row in rows.itertuples()]
    answered = [_dollars(row.model, row.prompt_tokens, row.completion_tokens) for row in rows.itertuples()]
    rows[LIST_COST] = 1000 * (pd.Series(answered, dtype=float) + pd.Series(found, dtype=float))
    columns = [LIST_COST]
    if reader == OFFLINE:
        estimated = [_dollars(model, *_estimated_tokens(row)) for row in rows.itertuples()]
        rows[ESTIMATED_COST] = 1000 * (pd.Series(estimated, dtype=float) + pd.Series(found, dtype=float))
        columns.append(ESTIMATED_COST)
    typed = rows[rows["question_type"] != ALL_TYPES]
    means = pd.concat([rows.assign(question_type=ALL_TYPES), typed]).groupby(_KEY)[columns].mean().reset_index()
    return frame.merge(means, on=_KEY, how="left", validate="many_to_one")


def cost_note(frame: pd.DataFrame, reader: str, model: str) -> str:
    """A remark on the cost of answering: where it is shown, or why there is nothing to draw.

    Args:
        model: that answered; of the offline reader, the one whose costs were estimated.
    """
    apart = (
        "Drafts and clues that MemoRAG asks a paid model for are in it; what else a system spends on finding evidence "
        "is not."
    )
    if reader == OFFLINE:
        priced = ESTIMATED_COST in frame and (frame[ESTIMATED_COST] > 0).any()
        told = (
            f"What `{model}` would cost for the same prompts, by list price and estimated tokens, is in the column "
            f"`{ESTIMATED_COST}` and the plot `coverage_cost`. {apart}"
            if priced
            else f"No list price is known for `{model}`, so that no costs are estimated either."
        )
        return (
            "The answers come from the offline extractive stand-in, which costs nothing: there is no curve of F1 "
            f"against dollars. {told} Export `OPENAI_API_KEY` (or set `answers.base_url`) to ask a model."
        )
    if reader == "local":
        return f"The answers come from `{model}` on this machine and cost nothing: no curves against dollars are drawn."
    if not (frame[LIST_COST] > 0).any():
        return (
            f"No list price is known for `{model}`: its answers count as free, and no curves against dollars are drawn."
        )
    return (
        "US dollars per 1,000 questions are by list price for the tokens of prompts and answers, cached answers "
        f"included: column `{LIST_COST}`, plots `coverage_cost` and `f1_cost`. {apart}"
    )


def _clue_dollars(warehouse: Warehouse, rows: pd.DataFrame, light_model: str | None) -> dict[str, float]:
    """Cost of MemoRAG's draft and clues by question, where a model at another server's or OpenAI's gave them."""
    if light_model is None or rows.empty:
        return {}
    traces = warehouse.query(
        "SELECT question_id, prompt_tokens, completion_tokens FROM memorag_traces WHERE run_id = ?",
        [rows["evidence_run_id"].iloc[0]],
    )
    return {
        row.question_id: _dollars(light_model, row.prompt_tokens, row.completion_tokens) for row in traces.itertuples()
    }


def _estimated_tokens(row: Any) -> tuple[int, int]:
    """Tokens of the prompt that a model would be sent, and of an answer as long as the one that was given."""
    messages = build_messages(row.question, row.evidence, row.language, without_evidence(row.system))
    return prompt_tokens(messages), evidence_tokens(row.answer)


def _dollars(model: str, asked: float, answered: float) -> float:
    price, _ = price_of(model, at_openai=False)
    if price is None:
        raise AssertionError("unreachable: only at OpenAI a price can be unknown")
    return actual_cost(Usage(int(asked), int(answered)), price)
