"""Dollars per 1,000 questions: list prices of the tokens, whatever was cached or paid."""

import pandas as pd
import pytest

from zrag_core.corpus.types import Corpus, Document, Question
from zrag_pipeline.answer_costs import cost_note, with_list_costs
from zrag_pipeline.warehouse import Warehouse

KEY = ["system", "budget", "reader", "split", "question_type"]


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
    frame = with_list_costs(board(), warehouse, "a1", "openai")
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
    frame = with_list_costs(board("offline"), warehouse, "a1", "offline")
    assert set(frame["usd_per_1000"].dropna()) == {0.0}
    assert "there are no curves against dollars" in cost_note(frame, "offline", "extractive-v1")
    answered(warehouse, model="my-model")
    frame = with_list_costs(board(), warehouse, "a1", "openai")
    assert cost_note(frame, "openai", "my-model").startswith("No list price is known for `my-model`")
