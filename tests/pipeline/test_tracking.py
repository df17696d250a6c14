import json
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from mlflow.entities import ViewType

from zrag_core.settings import Settings
from zrag_pipeline.platform.mlflow_links import compare_url
from zrag_pipeline.platform.provenance import ZRAG_VERSION
from zrag_pipeline.platform.tracking import Tracking, dagster_tags


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    # Creating MLflow's store takes seconds, so the tests share one; a name with a blank, a percent
    # sign and Korean, because data folders have such names.
    return Tracking(tmp_path_factory.mktemp("data") / "자료 100%")


def stored(tracking, run):
    return tracking.client.get_run(run.run_id)


def test_a_run_leads_back_to_dagster_and_keeps_settings(tracking):
    seen = {}

    @dg.asset
    def scores(context: dg.AssetExecutionContext):
        tags = dagster_tags(context, "c0ffee")
        with tracking.run("scores", asset="scores", context_tags=tags, params=Settings().model_dump()) as run:
            seen["run"], seen["dagster"] = run, context.run

    dg.materialize([scores])
    run = stored(tracking, seen["run"])
    assert run.info.run_name == "scores"
    assert run.info.status == "FINISHED"
    tags = {name: run.data.tags.get(name) for name in ("dagster.run_id", "dagster.job", "dagster.asset")}
    assert tags == {
        "dagster.run_id": seen["dagster"].run_id,
        "dagster.job": seen["dagster"].job_name,
        "dagster.asset": "scores",
    }
    assert run.data.tags["zrag.corpus_version"] == "c0ffee"
    assert run.data.tags["zrag.version"] == ZRAG_VERSION
    assert run.data.params["joint.lr_memory"] == "0.01"
    assert run.data.params["corpus.location"] == "null"
    assert json.loads(run.data.params["evaluation.budgets"]) == [64, 128, 256, 512]


def test_many_and_long_settings_are_kept(tracking):
    params = {f"p{n}": n for n in range(250)} | {"긴": "가" * 7000, "empty": {}}
    with tracking.run("r", asset="a", params=params) as run:
        pass
    found = stored(tracking, run).data.params
    assert len(found) == 252
    assert found["긴"] == "가" * 5997 + "..."


def test_metrics_have_clean_names_and_curves(tracking):
    with tracking.run("r", asset="a") as run:
        run.log_metrics({"recall@1": 0.5, "f1 (256)": 1, "loss": None, "empty": float("nan"), "//a//b": True})
        for step in (1, 2):
            run.log_metrics({"train/loss": 1 / step}, step=step)
        run.log_metrics({f"m{n}": n for n in range(1001)})
    metrics = stored(tracking, run).data.metrics
    assert {name: metrics[name] for name in metrics if not name.startswith("m")} == {
        "recall_at_1": 0.5,
        "f1 _256_": 1.0,
        "a/b": 1.0,
        "train/loss": 0.5,
    }
    assert metrics["m1000"] == 1000
    curve = tracking.client.get_metric_history(run.run_id, "train/loss")
    assert [(point.step, point.value) for point in curve] == [(1, 1.0), (2, 0.5)]


def test_artifacts_land_in_the_data_folder(tracking):
    frame = pd.DataFrame({"question": ["무엇?"], "scores": [[0.5, 0.25]]})
    with tracking.run("r", asset="a") as run:
        run.log_table(frame, "tables/questions")
        run.log_figure(b"\x89PNG...", "plots/coverage")
        run.log_text("# 순위", "leaderboard.md")
    (folder,) = (tracking.data_dir / "mlartifacts").glob(f"{run.run_id}/artifacts")
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert set(files) == {"tables/questions.json", "plots/coverage.png", "leaderboard.md"}
    assert files["plots/coverage.png"].read_bytes() == b"\x89PNG..."
    assert files["leaderboard.md"].read_text("utf-8") == "# 순위"
    table = json.loads(files["tables/questions.json"].read_text("utf-8"))
    assert table == {"columns": ["question", "scores"], "data": [["무엇?", [0.5, 0.25]]]}
    assert "tables/questions.json" in stored(tracking, run).data.tags["mlflow.loggedArtifacts"]


def test_datasets_are_inputs(tracking):
    with tracking.run("r", asset="a") as run:
        run.log_dataset("연감", "f" * 64, {"documents": 64}, source="almanac", context="evaluation")
    (given,) = stored(tracking, run).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("연감", "f" * 36)
    assert json.loads(given.dataset.profile) == {"documents": 64}
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "evaluation")]


def test_systems_are_children_with_the_tags_of_their_parent(tracking):
    with tracking.run("evaluation", asset="evidence", context_tags={"dagster.run_id": "d1"}) as parent:
        for name in ("bm25", "dense"):
            with tracking.child(parent, name, context_tags={"zrag.system": name}, params={"budget": 64}) as child:
                child.log_metrics({"f1": 0.5})
    found = tracking.client.search_runs(
        [tracking.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.run_id}'", order_by=["attributes.run_name"]
    )
    assert [run.info.run_name for run in found] == ["bm25", "dense"]
    for run in found:
        assert run.data.tags["dagster.run_id"] == "d1"
        assert run.data.tags["dagster.asset"] == "evidence"
        assert run.data.tags["zrag.system"] == run.info.run_name
        assert run.data.metrics == {"f1": 0.5}


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_failure_ends_parent_and_child_and_goes_on(tracking, error, status):
    runs = []

    def fails():
        with tracking.run("r", asset="a") as run:
            runs.append(run)
            with tracking.child(run, "c") as child:
                runs.append(child)
                raise error("stop")

    with pytest.raises(error, match="stop"):
        fails()
    assert [stored(tracking, run).info.status for run in runs] == [status] * 2


def test_url_leads_to_the_ui(tracking, monkeypatch):
    with tracking.run("r", asset="a") as run:
        pass
    monkeypatch.delenv("ZRAG_MLFLOW_URL", raising=False)
    page = f"/#/experiments/{tracking.experiment_id}/runs/{run.run_id}"
    assert run.url == f"http://127.0.0.1:5000{page}"
    monkeypatch.setenv("ZRAG_MLFLOW_URL", "https://mlflow.example.org/")
    assert run.url == f"https://mlflow.example.org{page}"


def test_urls_of_comparisons(monkeypatch):
    monkeypatch.setenv("ZRAG_MLFLOW_URL", "https://mlflow.example.org/")
    table, curves = compare_url("7", ["r1", "r2"]), compare_url("7", ["r1", "r2"], "f1")
    runs = "runs=%5B%22r1%22%2C%20%22r2%22%5D&experiments=%5B%227%22%5D"
    assert table == f"https://mlflow.example.org/#/compare-runs?{runs}"
    assert curves.startswith(
        f"https://mlflow.example.org/#/metric?{runs}&metric=%22f1%22&plot_metric_keys=%5B%22f1%22%5D"
    )
    assert "x_axis=step" in curves


def test_a_deleted_experiment_comes_back(tracking):
    tracking.client.delete_experiment(tracking.experiment_id)
    again = Tracking(tracking.data_dir)
    with again.run("r", asset="a") as run:
        pass
    assert stored(again, run).info.status == "FINISHED"


FIRST_USE = """
import sys, time
from zrag_pipeline.platform.tracking import Tracking
tracking = Tracking(sys.argv[1])
tracking.client
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
with tracking.run("first", asset="a", params={"a": 1}) as run:
    run.log_metrics({"x": 1})
"""


@pytest.mark.slow
def test_two_processes_may_create_the_store_at_once_and_say_nothing(tmp_path):
    start = str(time.time() + 4)
    command = [sys.executable, "-c", FIRST_USE, str(tmp_path), start]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    assert [(process.communicate()[0], process.returncode) for process in both] == [("", 0)] * 2
    tracking = Tracking(tmp_path)
    runs = tracking.client.search_runs([tracking.experiment_id], run_view_type=ViewType.ALL)
    assert [run.info.status for run in runs] == ["FINISHED"] * 2


def test_mlflow_is_imported_only_when_used():
    code = "import sys, zrag_pipeline.platform.tracking; sys.exit('mlflow' in sys.modules or 'pandas' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
