"""Dollars per 1,000 questions: list prices of the tokens, whatever was cached or paid."""

import pandas as pd
import pytest

from zrag_core.corpus.types import Corpus, Document, Question
from zrag_pipeline.defs.evaluation.answer_costs import cost_note, with_list_costs
from zrag_pipeline.platform.warehouse import Warehouse

KEY = ["system", "budget", "reader", "split", "question_type"]
GIVEN = {"model": "gpt-4o", "params": {}}


@pytest.fixture
def warehouse(tmp_path):
    questions = tuple(
        Question(f"q{i}", f"{i}?", ("x",), ("d",), split="test", question_type=kind)
        for i, kind in enumerate(("single", "single", "two_hop"))
    )
    warehouse = Warehouse(tmp_path / "w.duckdb", timeout_s=5)
    warehouse.save_corpus("v1", Corpus("c", (Document("d", "D", "x"),), questions))
    return warehouse


def answered(warehouse, model="gpt-4o", reader="openai", **changes):
    """Three answers of 1,000 prompt tokens at 64 evidence tokens and 3,000 at 256; the last one failed at 256."""
    rows = [
        {
            "corpus_version": "v1",
            "system": "zrag",
            "budget": budget,
            "question_id": f"q{i}",
            "model": model,
            "prompt_tokens": tokens,
            "completion_tokens": 100 * i,
            "cached": True,
            "cost_usd": 0.0,
            "error": "HTTP 500" if (i, budget) == (2, 256) else None,
        }
        | changes
        for budget, tokens in ((64, 1000), (256, 3000))
        for i in range(3)
    ]
    warehouse.replace_rows("answers", rows, {"run_id": "a1", "reader": reader})


def board(reader="openai"):
    rows = [
        ("zrag", budget, name, "test", kind)
        for name in ("none", reader)
        for budget in (64, 256)
        for kind in ("all", "single", "two_hop")
    ]
    return pd.DataFrame(rows, columns=KEY)


def test_tokens_count_at_list_prices_though_they_were_cached(warehouse):
    answered(warehouse)
    frame = with_list_costs(board(), warehouse, "a1", "openai", **GIVEN)
    cost = frame.set_index(KEY)["usd_per_1000"]
    # gpt-4o: 2.50 USD a million prompt tokens, 10 a million answer tokens.
    assert cost["zrag", 64, "openai", "test", "all"] == pytest.approx(2.5 + 1.0)
    assert cost["zrag", 64, "openai", "test", "single"] == pytest.approx(2.5 + 0.5)
    assert cost["zrag", 64, "openai", "test", "two_hop"] == pytest.approx(2.5 + 2.0)
    assert cost["zrag", 256, "openai", "test", "all"] == pytest.approx(7.5 + 0.5), "the failed one does not count"
    assert frame.loc[frame["reader"] == "none", "usd_per_1000"].isna().all()
    assert len(frame) == len(board())
    assert "`coverage_cost` and `f1_cost`" in cost_note(frame, "openai", "gpt-4o")


def test_what_costs_nothing_says_so(warehouse):
    answered(warehouse, model="extractive-v1", reader="offline", prompt_tokens=0, completion_tokens=0)
    frame = with_list_costs(board("offline"), warehouse, "a1", "offline", **GIVEN | {"model": "my-model"})
    assert set(frame["usd_per_1000"].dropna()) == {0.0}
    assert set(frame["estimated_usd_per_1000"].dropna()) == {0.0}
    assert "no costs are estimated either" in cost_note(frame, "offline", "my-model")
    answered(warehouse, model="my-model")
    frame = with_list_costs(board(), warehouse, "a1", "openai", **GIVEN)
    assert "estimated_usd_per_1000" not in frame
    assert cost_note(frame, "openai", "my-model").startswith("No list price is known for `my-model`")


def test_what_a_model_would_cost_is_estimated_beside_offline_answers(warehouse):
    answered(warehouse, model="extractive-v1", reader="offline", answer="Tarn", prompt_tokens=0, completion_tokens=0)
    frame = with_list_costs(board("offline"), warehouse, "a1", "offline", **GIVEN)
    cost = frame.set_index(KEY)["estimated_usd_per_1000"]
    # Without evidence in the warehouse: the bare prompt of about this many tokens, and an answer of one token.
    assert 0.2 < cost["zrag", 64, "offline", "test", "all"] < 1.0
    bare = cost["zrag", 64, "offline", "test", "all"]
    rows = [
        {"corpus_version": "v1", "system": "zrag", "budget": 64, "question_id": f"q{i}", "evidence": "x" * 400}
        for i in range(3)
    ]
    warehouse.replace_rows("evidence", rows, {"run_id": "e1"})
    answered(warehouse, model="extractive-v1", reader="offline", answer="Tarn", evidence_run_id="e1")
    frame = with_list_costs(board("offline"), warehouse, "a1", "offline", **GIVEN)
    cost = frame.set_index(KEY)["estimated_usd_per_1000"]
    assert cost["zrag", 64, "offline", "test", "single"] == pytest.approx(bare + 100 * 2.5e-3, abs=3e-3)
    assert frame.loc[frame["reader"] == "none", "estimated_usd_per_1000"].isna().all()
    note = cost_note(frame, "offline", "gpt-4o")
    assert "which costs nothing" in note
    assert "`gpt-4o` would cost" in note


def test_drafts_and_clues_of_a_paid_memory_are_part_of_the_cost(warehouse):
    answered(warehouse, system="memorag", evidence_run_id="e1")
    traces = [
        {
            "corpus_version": "v1",
            "question_id": f"q{i}",
            "memory": "summary",
            "draft": "",
            "clues": [],
            "found": "[]",
            "passages": [],
            "prompt_tokens": 6000,
            "completion_tokens": 100,
            "cost_usd": 0.0,  # cached
        }
        for i in range(3)
    ]
    warehouse.replace_rows("memorag_traces", traces, {"run_id": "e1"})
    frame = board().assign(system="memorag")

    def cost(params):
        priced = with_list_costs(frame, warehouse, "a1", "openai", model="gpt-4o", params=params)
        return priced.set_index(KEY)["usd_per_1000"]["memorag", 64, "openai", "test", "all"]

    assert cost({"memorag": {"memorag_memory": "z"}}) == pytest.approx(2.5 + 1.0), "a local memory costs nothing"
    # gpt-4o-mini: 0.15 USD a million prompt tokens, 0.60 a million answer tokens.
    light = 6 * 0.15 + 0.1 * 0.6
    assert cost({"memorag": {"light_model": "gpt-4o-mini"}}) == pytest.approx(2.5 + 1.0 + light)
