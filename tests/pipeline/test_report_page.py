"""The HTML report that an evaluation leaves: in the data folder, in MLflow, in Dagster's metadata."""

import uuid
from pathlib import Path

import dagster as dg
import pytest
from page_reading import assert_sound, read_page
from pipeline_runs import config, execute

from zrag_core.settings import load_settings
from zrag_pipeline.defs.evaluation.report_page import stand_ins
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse


@pytest.fixture(scope="module")
def page(lineage):
    (report,) = (lineage.data / "reports").iterdir()
    return read_page(report.read_text("utf-8"))


def example_rows(page, system):
    (block,) = (b for b in page.all("details", class_="system") if b.all("h3")[0].text == system)
    return block.all("details", class_="example")


def test_the_page_is_sound_and_tells_what_was_run(page, lineage):
    assert_sound(page)
    told = page.all("header")[0].text
    assert lineage.run_id in told
    assert "documents12" in told
    assert "(12 asked)" in told
    assert "Stand-in: the answers come from the offline extractive reader" in told
    assert "memory.policyseparated" in told
    assert "systems.bm25.bm25_k11.5" in told
    titles = [node.text for node in page.all("figcaption")]
    assert "Answers (test)" in titles
    assert any("memory, joint" in title for title in titles)
    assert "F1 curve (test)" in titles


def test_the_page_shows_the_comparisons_of_the_warehouse(page, lineage):
    warehouse = Warehouse(lineage.data / "warehouse.duckdb")
    verdicts = warehouse.query("SELECT verdict FROM comparisons")["verdict"]
    (section,) = page.all("section", id="differences")
    assert sorted(cell.text for cell in section.all("td", class_="words")) == sorted(verdicts)


def test_both_assets_link_to_the_same_page_with_the_answers(lineage):
    made = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in lineage.result.get_asset_materialization_events()
    }
    (report,) = (lineage.data / "reports").iterdir()
    client = Tracking(lineage.data).client
    for asset in ("leaderboard", "answer_scores"):
        assert Path(made[asset]["report"].path) == report
        link, run = made[asset]["report_in_mlflow"].value, made[asset]["mlflow"].value
        assert link == f"{run}/artifacts/report.html"
        assert "report.html" in [file.path for file in client.list_artifacts(run.rsplit("/", 1)[1])]
    # Whichever asset came last, the page has what the other one made.
    assert "Answer by offline (stand-in)" in report.read_text("utf-8")


def test_examples_are_rows_of_the_warehouse(page, lineage):
    warehouse = Warehouse(lineage.data / "warehouse.duckdb")
    for system in ("zrag", "bm25"):
        rows = warehouse.query(
            "SELECT q.question, e.evidence, a.answer FROM evidence e JOIN questions q USING (question_id) "
            "JOIN answers a USING (system, question_id, budget) WHERE e.system = ? AND e.budget = 256",
            [system],
        ).set_index("question")
        shown = example_rows(page, system)
        assert shown
        for node in shown:
            row = rows.loc[node.all("span", class_="question")[0].text]
            lines = [item.text for item in node.all("li", class_="verbatim") + node.all("blockquote")]
            assert "\n".join(lines) == row["evidence"]
            answer = node.all("span", class_="verbatim")[0].text
            assert answer == (row["answer"] or "(empty)")
            marked = [mark for block in node.all("div", class_="document") for mark in block.all("mark")]
            assert any(mark.has(class_="evidence") for mark in marked) == bool(row["evidence"])


@pytest.mark.slow
def test_an_evaluation_of_its_own_has_a_page_of_its_own_that_answers_complete(own_lineage):
    fewer = {"systems": ["bm25", "gold_evidence"], "limit_questions": 4}

    def run(job, number):
        with dg.DagsterInstance.ephemeral() as instance:
            run_id = str(uuid.UUID(int=number))
            execute(job, own_lineage.data, run_config=config(evaluation=fewer), run_id=run_id, instance=instance)

    before = set((own_lineage.data / "reports").iterdir())
    run("evaluate", 1)
    (new,) = set((own_lineage.data / "reports").iterdir()) - before
    assert "Answer by" not in new.read_text("utf-8")
    run("answers", 2)
    assert set((own_lineage.data / "reports").iterdir()) == before | {new}
    page = read_page(new.read_text("utf-8"))
    assert_sound(page)
    assert "Answer by offline (stand-in)" in page.text
    assert len(example_rows(page, "bm25")) == 4


def test_stand_ins_are_named_only_where_they_are_used():
    settings = load_settings({})
    assert len(stand_ins(settings, ["zrag", "dense"], ["none", "offline"])) == 3
    assert stand_ins(settings, ["bm25"], ["none"]) == []
    real = load_settings({"backbone": {"name": "Qwen/Qwen3-8B"}, "baselines": {"dense_encoder": "e5"}})
    assert stand_ins(real, ["zrag", "dense"], ["openai"]) == []
