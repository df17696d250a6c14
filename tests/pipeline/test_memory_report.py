"""The memory report as an asset: real warehouse, MLflow on SQLite, checkpoints on disk."""

import json
from dataclasses import replace
from types import SimpleNamespace

import dagster as dg
import pandas as pd
import pytest
from pipeline_runs import SETTINGS

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.version import corpus_version, questions_version
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.checks.catalog import MEMORY_CHECKS, judged_figures, threshold_of
from zrag_core.model.store.checkpoint import save_checkpoint
from zrag_core.model.training.joint_training import initialise
from zrag_core.settings import load_settings
from zrag_pipeline.defs.memory.memory_report import CheckedMemory, check_memory, check_results, report_markdown
from zrag_pipeline.defs.memory.report_assets import memory_report
from zrag_pipeline.platform.asset_helpers import Platform
from zrag_pipeline.platform.handle_store import HandleIOManager
from zrag_pipeline.platform.handles import CheckpointReference, MemoryHandle
from zrag_pipeline.platform.settings_resource import SettingsHandle
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse

NAMES = list(judged_figures(MEMORY_CHECKS))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data folder with a corpus in the warehouse and an untrained joint checkpoint."""
    data = tmp_path_factory.mktemp("data") / "자료 1"
    raw = {**SETTINGS, "memory": {"policy": "joint"}}
    settings = load_settings(raw)
    corpus = generate_almanac(n_documents=12, language="en", seed=0)
    version = corpus_version(corpus.documents)
    warehouse = Warehouse(data / "warehouse.duckdb", timeout_s=5)
    data.mkdir()
    warehouse.save_corpus(version, corpus)
    backbone = create_backbone(settings.backbone, [document.contents for document in corpus.documents], seed=0)
    model = initialise(backbone, settings.joint, corpus.documents, seed=0).eval()
    folder = data / "checkpoints" / "joint-1"
    folder.parent.mkdir()
    save_checkpoint(folder, model, corpus.documents, settings, checkpoint_id="joint-1", metrics={})
    reference = CheckpointReference("joint-1", folder, version)
    params = {"policy": "joint", "m": 2}
    handle = MemoryHandle(version, questions_version(corpus.questions), reference, params)
    return SimpleNamespace(
        data=data, raw=raw, warehouse=warehouse, tracking=Tracking(data), handle=handle, version=version
    )


def absent(handle):
    return replace(handle, checkpoint=None, params={}, left_out="a test")


def report_on(place, separated, joint, **options):
    @dg.asset
    def memory() -> MemoryHandle:
        return separated

    @dg.asset
    def joint_memory() -> MemoryHandle:
        return joint

    return dg.materialize(
        [memory, joint_memory, memory_report],
        resources={
            "platform": Platform(SettingsHandle(place.raw), place.warehouse, place.tracking),
            "io_manager": HandleIOManager(place.data / "handles"),
        },
        **options,
    )


@pytest.fixture(scope="module")
def result(place):
    return report_on(place, absent(place.handle), place.handle)


def stored(place, run_id):
    return place.warehouse.query("SELECT * FROM memory_checks WHERE run_id = ? ORDER BY rowid", [run_id])


def test_every_figure_is_a_row(place, result):
    rows = stored(place, result.run_id)
    assert set(rows["checkpoint_id"]) == {"joint-1"}
    judged = rows[rows["check_name"].isin(NAMES)]
    assert sorted(judged["check_name"]) == sorted(NAMES)
    assert judged[["threshold", "passed"]].notna().all().all()
    others = rows[~rows["check_name"].isin(NAMES)]
    assert set(others["check_name"]) == {
        "free_coverage",
        "alpha_sweep",
        "coverage_by_documents",
        "deleted_floor_coverage",
    }
    assert others[["threshold", "passed"]].isna().all().all()
    sweeps = others[others["parameter"].notna()].groupby("check_name")["parameter"].apply(list).to_dict()
    assert sweeps == {"alpha_sweep": [0, 0.25, 0.5, 0.75, 1, 1.5, 2], "coverage_by_documents": [3, 6, 12]}
    assert rows["value"].between(0, 1).all()
    assert rows["zrag_version"].notna().all()


def test_a_bad_memory_warns_and_stops_nothing(place, result):
    assert result.success
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    rows = stored(place, result.run_id).set_index("check_name")
    assert set(checks) == set(NAMES)
    assert not checks["reconstruction_rouge_l"].passed, "untrained"
    for name, check in checks.items():
        assert check.severity == dg.AssetCheckSeverity.WARN
        assert not check.blocking
        assert check.passed == rows.loc[name, "passed"]
        assert check.metadata["joint"].value == pytest.approx(rows.loc[name, "value"])


def test_mlflow_has_a_child_run_for_the_checkpoint(place, result):
    client = place.tracking.client
    runs = client.search_runs([place.tracking.experiment_id], order_by=["attributes.start_time ASC"])
    runs = [run for run in runs if run.data.tags["dagster.run_id"] == result.run_id]
    parent, child = runs
    assert (parent.info.run_name, child.info.run_name) == ("memory_report", "joint")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["zrag.checkpoint_id"] == "joint-1"
    assert (child.data.params["policy"], child.data.params["n_questions"]) == ("joint", "12")
    rows = stored(place, result.run_id)
    plain = rows[rows["parameter"].isna()]
    expected = dict(zip(plain["check_name"], plain["value"], strict=True))
    assert {name: child.data.metrics[name] for name in expected} == pytest.approx(expected)
    assert {"alpha_sweep_0.25", "coverage_by_documents_12"} <= set(child.data.metrics)
    files = {file.path for file in client.list_artifacts(child.info.run_id, "plots")}
    assert files == {
        f"plots/{name}.png" for name in ("confusion", "slots_read", "coverage_by_documents", "alpha_sweep")
    }
    assert {file.path for file in client.list_artifacts(child.info.run_id)} >= {"memory_checks.json"}
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"memory_checks.md"}


def test_dagster_shows_the_table_and_the_plots(place, result):
    (made,) = result.asset_materializations_for_node("memory_report")
    table = made.metadata["memory_checks"].value
    rows = stored(place, result.run_id)
    assert made.metadata["dagster/row_count"].value == len(rows)
    assert len(table.splitlines()) == 2 + len(rows)
    assert "| check | joint (joint-1), 12 questions | threshold |" in table
    assert "**failed** | at least 0.6 |" in table
    for name in ("confusion (joint)", "slots_read (joint)", "alpha_sweep (joint)"):
        assert made.metadata[name].value.startswith("![")
    latest = json.loads((place.data / "handles" / "memory_report" / "latest.json").read_text("utf-8"))
    assert latest == {"run_id": result.run_id, "checkpoint_ids": ["joint-1"]}


def test_every_check_is_a_line_of_progress(place):
    lines = []
    corpus = place.warehouse.load_corpus(place.version)
    few = load_settings({**place.raw, "evaluation": {"limit_questions": 3}})
    found = check_memory(place.handle, corpus, few, lines.append)
    assert found.n_questions == 3
    assert [line.split(" of ")[0] for line in lines] == [f"joint: {number}" for number in range(1, 11)]
    assert "documents_found" in lines[0]
    assert "document_top1" in lines[1]
    assert all(line.endswith(" s") for line in lines)


def test_two_checkpoints_share_a_report(place):
    first = replace(place.handle, checkpoint=replace(place.handle.checkpoint, checkpoint_id="first"))
    result = report_on(place, first, place.handle)
    rows = stored(place, result.run_id)
    assert list(dict.fromkeys(rows["checkpoint_id"])) == ["first", "joint-1"]
    columns = ["check_name", "parameter", "value", "threshold", "passed"]
    own, other = (rows[rows["checkpoint_id"] == name][columns].reset_index(drop=True) for name in ("first", "joint-1"))
    pd.testing.assert_frame_equal(own, other)  # the same checkpoint twice


def test_without_any_memory_the_report_is_empty_and_green(place):
    result = report_on(place, absent(place.handle), absent(place.handle))
    assert result.success
    assert stored(place, result.run_id).empty
    checks = result.get_asset_check_evaluations()
    assert {check.check_name for check in checks} == set(NAMES)
    assert all(check.passed and check.description == "not measured" for check in checks)
    (made,) = result.asset_materializations_for_node("memory_report")
    assert "nothing to check" in made.metadata["memory_checks"].value


def test_questions_that_may_have_been_trained_on_are_refused(place):
    other = replace(place.handle, questions_version="another")
    result = report_on(place, other, absent(place.handle), raise_on_error=False)
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    assert "other questions or splits" in failure.step_failure_data.error.cause.message


# --- verdicts -------------------------------------------------------------------------------------


def checked(policy, values, extra=0.05):
    rows = []
    for name, value in values.items():
        threshold = threshold_of(name)
        limit = threshold.value + (extra if name == "deleted_leak_coverage" else 0)
        passed = value >= limit if threshold.at_least else value <= limit
        rows.append((name, None, value, limit, passed))
    frame = pd.DataFrame(rows, columns=["check_name", "parameter", "value", "threshold", "passed"])
    return CheckedMemory(policy, policy, {}, frame, {}, 5)


GOOD = {
    "document_top1": 1.0,
    "reconstruction_rouge_l": 0.7,
    "projection_random_top1": 0.02,
    "z_shuffle_coverage": 0.05,
    "oracle_routing_coverage": 0.9,
    "deleted_leak_coverage": 0.09,
}


@pytest.mark.parametrize(("name", "bad"), list({**dict.fromkeys(GOOD, 0.5), "document_top1": 0.98}.items()))
def test_each_check_judges_the_separated_memory_and_shows_the_joint_one(name, bad):
    joint = checked("joint", {**GOOD, "z_shuffle_coverage": 0.65})
    passing = {check.check_name: check for check in check_results([checked("separated", GOOD), joint])}
    assert all(check.passed for check in passing.values())
    assert passing["z_shuffle_coverage"].metadata["joint"].value == 0.65
    failing = check_results([checked("separated", {**GOOD, name: bad}), joint])
    assert [check.check_name for check in failing if not check.passed] == [name]
    alone = {check.check_name: check.passed for check in check_results([joint])}
    assert alone == {other: other != "z_shuffle_coverage" for other in NAMES}


def test_the_table_sets_checkpoints_side_by_side():
    joint = checked("joint", {"z_shuffle_coverage": 0.65})
    lines = report_markdown([checked("separated", GOOD), joint]).splitlines()
    assert lines[0] == "| check | separated (separated), 5 questions | joint (joint), 5 questions | threshold |"
    assert "| z_shuffle_coverage | 0.050 passed | 0.650 **failed** | at most 0.1 |" in lines
    assert "| document_top1 | 1.000 passed |  | at least 0.99 |" in lines
    assert "| deleted_leak_coverage | 0.090 passed |  | at most 0.05 above guessing |" in lines


def test_the_asset_declares_every_threshold():
    assert sorted(spec.name for spec in memory_report.check_specs) == sorted(judged_figures(MEMORY_CHECKS))
    assert not any(spec.blocking for spec in memory_report.check_specs)
