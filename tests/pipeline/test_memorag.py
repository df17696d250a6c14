"""MemoRAG's memory models in the pipeline: what they keep, what they cost, and what they need."""

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from pipeline_runs import config, execute
from small_llm import save_small_qwen3

sys.path.insert(0, str(Path(__file__).parents[1] / "answering"))
from faulty_server import Reply, serving

from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.spending_account import SpendingAccount
from zrag_core.corpus.types import Question
from zrag_core.errors import AnsweringError, SettingsError
from zrag_core.memorag.clue_memory import Usage
from zrag_core.memorag.memorag_system import MemoragTrace
from zrag_core.settings import Settings, load_settings
from zrag_core.system_factory import SystemInputs
from zrag_core.systems import system_spec
from zrag_pipeline.defs.answers.answer_run import ModelAccess, answer_evidence
from zrag_pipeline.defs.evaluation.memorag import sample_traces
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.handle_store import stored_handle
from zrag_pipeline.platform.handles import EvidenceHandle
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse

EACH = (50 * 0.15 + 3 * 0.60) / 1e6  # gpt-4o-mini's list price of a reply of the server
QUESTIONS = 4


def say(prompt, _before):
    """A summary, clues or a draft, as asked for."""
    if "<passages>" in prompt or "<summaries>" in prompt:
        return Reply(text="A book of towns and people.")
    if "clues" in prompt:
        return Reply(text="1. Who was it?\n2. It was founded in")
    return Reply(text="Perhaps in the north.")


def evaluate(data, memorag, **answers):
    """Run the job `evaluate` on what a lineage left, for MemoRAG alone."""
    evaluation = {"systems": ["memorag"], "limit_questions": QUESTIONS, "budgets": [64, 256], "bootstrap_samples": 20}
    return execute("evaluate", data, run_config=config(evaluation=evaluation, memorag=memorag, answers=answers))


def spent(data, run_id):
    """Dollars by asset."""
    with closing(sqlite3.connect(data / "spending.sqlite")) as connection:
        return dict(connection.execute("SELECT part, spent_usd FROM spending WHERE run_id = ?", [run_id]))


def evidence_event(result):
    events = result.get_asset_materialization_events()
    return next(e.materialization for e in events if e.asset_key.to_user_string() == "system_evidence")


def traces(data, run_id):
    return Warehouse(data / "warehouse.duckdb").query("SELECT * FROM memorag_traces WHERE run_id = ?", [run_id])


def test_a_summary_memory_is_built_once_asked_through_the_cache_and_accounted_for(own_lineage):
    data = own_lineage.data
    memorag = {"memory": "summary", "group_tokens": 300, "light_model": "gpt-4o-mini", "passages_per_clue": 2}
    with serving(say) as server:
        options = {"reader": "openai", "base_url": server.url, "concurrency": 2, "max_cost_usd": 1.0}
        first = evaluate(data, memorag, **options)
        made = evidence_event(first).metadata
        summaries = list((data / "memorag" / "summaries").iterdir())
        assert server.answered == len(summaries) + 2 * QUESTIONS
        assert {(body["model"], body["temperature"]) for body in server.bodies} == {("gpt-4o-mini", 0.3)}
        second = evaluate(data, memorag, **options)
        assert server.answered == len(summaries) + 2 * QUESTIONS, "nothing is paid for twice"
        again = evidence_event(second).metadata
    assert made["memorag_summaries_made"].value == len(summaries) > 1
    assert made["memorag_building_cost_usd"].value == pytest.approx(len(summaries) * EACH)
    assert made["memorag_asking_cost_usd"].value == pytest.approx(2 * QUESTIONS * EACH)
    assert "Perhaps in the north." in made["memorag_traces"].value
    assert (again["memorag_summaries_made"].value, again["memorag_asking_cost_usd"].value) == (0, 0)
    assert again["memorag_summaries_reused"].value == len(summaries)
    value = first.output_for_node("system_evidence")
    assert spent(data, first.run_id) == {"system_evidence": pytest.approx((len(summaries) + 2 * QUESTIONS) * EACH)}
    assert spent(data, second.run_id) == {}
    assert value.params["memorag"]["light_model"] == "gpt-4o-mini"
    assert "checkpoint_id" not in value.params["memorag"]
    rows = traces(data, first.run_id)
    assert len(rows) == QUESTIONS
    assert set(rows["memory"]) == {"summary"}
    assert all(list(clues) == ["Who was it?", "It was founded in"] for clues in rows["clues"])
    assert rows["cost_usd"].tolist() == pytest.approx([2 * EACH] * QUESTIONS)
    assert (rows[["prompt_tokens", "completion_tokens"]] == [100, 6]).all().all()
    found = Warehouse(data / "warehouse.duckdb").query(
        "SELECT DISTINCT checkpoint_id FROM evidence WHERE run_id = ?", [first.run_id]
    )
    assert found["checkpoint_id"].isna().all(), "it reads no checkpoint"
    runs = Tracking(data).client.search_runs([Tracking(data).experiment_id], f"tags.dagster.run_id = '{first.run_id}'")
    (logged,) = (run for run in runs if run.info.run_name == "system_evidence")
    assert logged.data.metrics["memorag_asking_cost_usd"] == pytest.approx(2 * QUESTIONS * EACH)


def test_an_empty_summary_ends_the_run_and_is_asked_for_again_in_the_next(own_lineage):
    replies = iter(["", *["A book of towns."] * 99])
    with serving(lambda prompt, _: Reply(text=next(replies)) if "passages>" in prompt else say(prompt, _)) as server:
        options = {"reader": "openai", "base_url": server.url, "concurrency": 1}
        with pytest.raises(AnsweringError, match=r"summaries could not be made: the model returned no text"):
            evaluate(own_lineage.data, {"memory": "summary"}, **options)
        made = evidence_event(evaluate(own_lineage.data, {"memory": "summary"}, **options)).metadata
    assert made["memorag_summaries_made"].value >= 1


def test_the_spending_limit_holds_over_summaries_drafts_and_clues(own_lineage):
    with serving(say) as server:
        options = {"reader": "openai", "base_url": server.url, "concurrency": 1, "max_cost_usd": 1e-4}
        with pytest.raises(AnsweringError, match="spending limit"):
            evaluate(own_lineage.data, {"memory": "summary"}, **options)
        assert server.answered == 0


def test_nothing_is_left_for_answers_where_the_evidence_took_it_all(own_lineage, monkeypatch):
    """One limit for a run, over its assets; another run has its own."""
    monkeypatch.setenv("ZRAG_DATA_DIR", str(own_lineage.data))
    handle = stored_handle("system_evidence", EvidenceHandle)
    warehouse = Warehouse(own_lineage.data / "warehouse.duckdb")
    taken = SpendingLedger(2.0, SpendingAccount(paths.spending_file(), "r1", "system_evidence"))
    assert taken.try_reserve(1.99999)
    taken.settle(1.99999, 1.99999)
    with serving(say) as server:
        answers = {"reader": "openai", "base_url": server.url, "max_cost_usd": 2.0, "limit_questions": 1}
        settings = load_settings({"answers": answers})

        def asked(run_id):
            ledger = SpendingLedger(2.0, SpendingAccount(paths.spending_file(), run_id, "answer_runs"))
            access = ModelAccess({}, own_lineage.data / "cache.sqlite", ledger)
            return answer_evidence(settings, warehouse, handle, run_id, access, str).frame["error"]

        assert set(asked("r1")) == {"spending limit"}
        assert server.answered == 0
        assert asked("r2").isna().all()


def test_without_a_model_a_summary_memory_is_one_clear_error(own_lineage, monkeypatch, tmp_path):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(own_lineage.data))
    settings = load_settings({"memorag": {"memory": "summary"}})
    (version,) = Warehouse(own_lineage.data / "warehouse.duckdb").query("SELECT corpus_version FROM corpora").iloc[0]
    corpus = Warehouse(own_lineage.data / "warehouse.duckdb").load_corpus(version)
    inputs = SystemInputs(settings, corpus, [], {}, {}, tmp_path, tmp_path / "cache", SpendingLedger(1.0), {})
    with pytest.raises(SettingsError, match=r"memorag\.memory: .*export OPENAI_API_KEY.*or set memorag.memory to z"):
        inputs.make("memorag")


def test_a_kv_memory_reads_the_corpus_once_for_each_version(own_lineage, qwen3):
    memorag = {"memory": "kv", "kv_model": str(qwen3), "draft_tokens": 4, "clue_tokens": 6, "kv_window": 4096}
    first = evaluate(own_lineage.data, memorag)
    made = evidence_event(first).metadata
    (version,) = Warehouse(own_lineage.data / "warehouse.duckdb").query("SELECT corpus_version FROM corpora").iloc[0]
    folder = own_lineage.data / "memorag" / "kv" / version
    assert (folder / "config.json").is_file()
    assert made["memorag_tokens_reused"].value == 0
    assert 0 < made["memorag_documents_read"].value <= 12
    again = evidence_event(evaluate(own_lineage.data, memorag)).metadata
    tokens = json.loads((folder / "config.json").read_text())["tokens"]
    assert again["memorag_tokens_reused"].value == tokens >= made["memorag_tokens_read"].value
    rows = traces(own_lineage.data, first.run_id)
    assert set(rows["memory"]) == {"kv"}
    assert (rows["completion_tokens"] > 0).all()
    assert (rows["cost_usd"] == 0).all()


@pytest.fixture
def qwen3(tmp_path):
    """A local causal LM with random weights and a long window."""
    texts = ["A town was founded in 1204 by people who kept bees."] * 3
    return save_small_qwen3(tmp_path / "qwen3", texts, max_position_embeddings=8192)


def test_parameters_name_what_each_memory_depends_on():
    def params(**values):
        return system_spec("memorag", load_settings({"memorag": values})).params

    common = {"retriever": "dense", "passages_per_clue": 5}
    assert params(**common) == {"memorag_memory": "z", **common}
    assert params(**common, memory="summary").keys() > {"light_model", "light_temperature", "memory_tokens"}
    assert params(**common, memory="kv", kv_model="m")["kv_model"] == "m"


def test_a_sample_shows_what_each_clue_led_to_and_what_went_wrong():
    class System:
        traces = {
            "q": MemoragTrace("q", "a *draft*", ("clue",), (("d1",), ("d2", "d1")), ("d1", "d2"), Usage(), "HTTP 400")
        }

    shown = sample_traces(System(), [Question("q", "Who\nwas it?")])
    assert shown.splitlines() == [
        "**Who was it?**",
        "",
        "- draft: a \\*draft\\*",
        "- the question itself → d1",
        "- clue → d2, d1",
        "- passages: d1, d2",
        "- error: HTTP 400",
    ]


def test_the_local_model_must_be_named():
    with pytest.raises(SettingsError, match=r"^memorag: memory 'kv' needs kv_model"):
        load_settings({"memorag": {"memory": "kv"}})
    assert Settings().memorag.memory == "z"
