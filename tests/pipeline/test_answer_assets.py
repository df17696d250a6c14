"""Answer runs at a model: answers, verdicts, costs and traces, in DuckDB, MLflow and Dagster."""

import json
from pathlib import Path

import dagster as dg
import psutil
import pytest
from answering.faulty_server import Reply, error_body, serving
from answering.tiny_chat_model import instead_of_smollm2
from pipeline_runs import config, execute

from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse

KEY = "sk-a-very-secret-key"
SYSTEMS = ["bm25", "gold_evidence", "closed_book"]
QUESTIONS = 4
BUDGETS = (256, 64)  # the one whose answers are judged, and one for the curves
EACH = {"gpt-4o": (50 * 2.5 + 3 * 10) / 1e6, "gpt-4o-mini": (50 * 0.15 + 3 * 0.6) / 1e6}


def behave(prompt, _before):
    if "<answer>" not in prompt:
        return Reply(text="Ada") if "<evidence>" in prompt else Reply(status=400, body=error_body(f"no, {KEY}"))
    return Reply(text="CORRECT")


@pytest.fixture
def answered(own_lineage, monkeypatch):
    """Answers at two budgets from the newest evidence, with a judge; closed-book requests are refused."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    fewer = {"systems": SYSTEMS, "limit_questions": QUESTIONS}
    with serving(behave) as server, dg.DagsterInstance.ephemeral() as instance:
        answers = {"reader": "openai", "base_url": server.url, "judge": {"model": "gpt-4o-mini"}, "concurrency": 2}
        for job in ("evaluate", "answers"):
            run = execute(
                job, own_lineage.data, run_config=config(evaluation=fewer, answers=answers), instance=instance
            )
    return own_lineage.data, run


def test_answers_verdicts_costs_and_traces(answered, capfd):
    data, run = answered
    warehouse = Warehouse(data / "warehouse.duckdb", timeout_s=5)
    given = warehouse.query(
        "SELECT system, budget, count(*) AS n FROM answers WHERE run_id = ? GROUP BY ALL", [run.run_id]
    )
    given = given.set_index(["system", "budget"])["n"].to_dict()
    assert given == {(system, budget): QUESTIONS for system in SYSTEMS for budget in BUDGETS}
    rows = warehouse.query("SELECT * FROM judgements WHERE run_id = ?", [run.run_id])
    assert set(rows["budget"]) == {BUDGETS[0]}, "only the headline's answers are worth a verdict each"
    assert len(rows) == 2 * QUESTIONS
    assert set(rows["system"]) == {"bm25", "gold_evidence"}, "what was not answered is not judged"
    assert set(rows["verdict"]) == {"correct"}
    assert set(rows["judge_model"]) == {"gpt-4o-mini"}
    total = {"bm25": QUESTIONS, "gold_evidence": QUESTIONS}
    board = warehouse.query(
        "SELECT * FROM leaderboard WHERE run_id = ? AND question_type = 'all' AND reader = 'openai'", [run.run_id]
    )
    curve, board = (board[board["budget"] == budget].set_index("system") for budget in reversed(BUDGETS))
    assert curve[["judged_correct", "judge_cost_usd"]].isna().all(axis=None)
    assert curve.loc["bm25", "f1"] >= 0
    for system, n in total.items():
        assert board.loc[system, "judged_correct"] == 1.0
        assert board.loc[system, "judged_correct_low"] == 1.0
        # Equal prompts of two systems are paid once, by the first.
        assert board.loc[system, "cost_usd"] <= n * EACH["gpt-4o"] + 1e-9
        assert board.loc[system, "judge_cost_usd"] <= n * EACH["gpt-4o-mini"] + 1e-9
    assert board.loc["bm25", "judge_cost_usd"] > 0
    assert board["judged_correct"].isna().to_dict() == {"bm25": False, "gold_evidence": False, "closed_book": True}

    tracking = Tracking(data)
    found = tracking.client.search_runs([tracking.experiment_id], f"tags.`dagster.run_id` = '{run.run_id}'")
    by_name = {item.info.run_name: item for item in found}
    metrics = by_name["answer_runs"].data.metrics
    assert metrics["judge_cost_usd"] == pytest.approx(rows["cost_usd"].sum())
    assert metrics["judged_correct"] == 1.0
    assert metrics["errors"] == len(BUDGETS) * QUESTIONS
    assert by_name["answer_runs"].data.params["judge_model"] == "gpt-4o-mini"
    assert by_name["bm25"].data.metrics["judged_correct"] == 1.0

    traces = tracking.client.search_traces(
        locations=[tracking.experiment_id],
        run_id=by_name["answer_runs"].info.run_id,
        max_results=100,
    )
    assert len(traces) == metrics["traces"] == len(BUDGETS) * len(SYSTEMS) * QUESTIONS + 2 * QUESTIONS
    assert {trace.info.tags["mlflow.traceName"] for trace in traces} == {"answer", "judge"}
    failed = [trace for trace in traces if trace.info.state == "ERROR"]
    assert {trace.info.tags["zrag.system"] for trace in failed} == {"closed_book"}
    for trace in traces:
        (span,) = trace.data.spans
        assert span.inputs["messages"]
        assert trace.info.tags["zrag.question_id"]
        assert span.get_attribute("cached") in (True, False)
        assert trace.info.execution_duration == pytest.approx(span.get_attribute("latency_ms"), abs=2)
    assert sum(trace.data.spans[0].get_attribute("cost_usd") for trace in traces) == pytest.approx(
        metrics["cost_usd"] + metrics["judge_cost_usd"]
    )

    checks = {check.check_name: check for check in run.get_asset_check_evaluations()}
    assert checks["answered_by_a_model"].passed
    assert checks["no_judge_errors"].passed
    assert not checks["no_errors"].passed
    (made,) = run.asset_materializations_for_node("answer_scores")
    assert "judged correct" in made.metadata["leaderboard"].value
    assert "judged correct at 256, openai" in made.metadata["comparisons"].value
    assert {"f1_cost (test)", "coverage_cost (test)"} <= set(made.metadata)
    page = Path(made.metadata["report"].path).read_text("utf-8")
    assert "judged correct</th>" in page
    assert ", judged correct</small>" in page
    assert "F1 cost (test)" in page

    text = capfd.readouterr()
    stored = json.dumps([trace.to_dict() for trace in traces], default=str) + text.out + text.err
    for path in data.rglob("*"):
        if path.is_file():
            stored += path.read_bytes().decode("latin-1")
    assert KEY not in stored


def test_the_local_reader_is_started_for_the_answers_and_gone_after_them(own_lineage, monkeypatch):
    """Every table names it as what it is, a key that is exported is not used, and nothing is spent."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    data = own_lineage.data
    instead_of_smollm2(data)
    answers = {"reader": "local", "max_answer_tokens": 5, "limit_questions": QUESTIONS, "max_cost_usd": 0.0}
    with dg.DagsterInstance.ephemeral() as instance:
        run = execute("answers", data, run_config=config(answers=answers), instance=instance)
    assert not [child for child in psutil.Process().children(recursive=True) if "local_server" in _command(child)]
    warehouse = Warehouse(data / "warehouse.duckdb", timeout_s=5)
    rows = warehouse.query("SELECT * FROM answers WHERE run_id = ?", [run.run_id])
    assert set(rows["reader"]) == {"local"}
    assert set(rows["model"]) == {"SmolLM2-135M-Instruct"}
    assert (rows["cost_usd"] == 0).all()
    errors = rows["error"].dropna()
    assert errors.str.startswith("the model returned no text").all(), "untrained weights may say nothing"
    assert (rows["completion_tokens"] > 0).any()
    board = warehouse.query("SELECT DISTINCT reader, notes FROM leaderboard WHERE run_id = ?", [run.run_id])
    assert set(board["reader"]) == {"local"}
    assert board["notes"].str.contains("SmolLM2-135M-Instruct, not ChatGPT").all()
    (check,) = [each for each in run.get_asset_check_evaluations() if each.check_name == "answered_by_a_model"]
    assert check.passed
    texts = [str(event.metadata) for event in map(_materialization, run.get_asset_materialization_events())]
    assert any("SmolLM2-135M-Instruct" in text for text in texts)
    assert not any("gpt-4o" in text for text in texts)


def test_a_server_of_ones_own_is_used_and_one_with_other_models_refused(own_lineage):
    with serving(lambda *_: Reply(text="Ada")) as other:
        answers = {"reader": "local", "base_url": other.url, "limit_questions": QUESTIONS}
        run = execute("answers", own_lineage.data, run_config=config(answers=answers), raise_on_error=False)
    assert not run.success
    (failure,) = [event for event in run.all_events if event.is_step_failure]
    assert "answers.base_url" in str(failure.step_failure_data.error)
    assert other.answered == 0


def _command(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _materialization(event):
    return event.step_materialization_data.materialization
