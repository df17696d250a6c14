"""The job `benchmark_update`: one small almanac, added to and removed from."""

import shutil

import pytest
from pipeline_runs import config, execute

from zrag_pipeline.platform.warehouse import Warehouse


@pytest.fixture(scope="module")
def measured(trained_skill, tmp_path_factory):
    """The table `benchmarks` after a run over a small almanac."""
    data = tmp_path_factory.mktemp("benchmark") / "data"
    shutil.copytree(trained_skill.data / "skills", data / "skills")  # found again: nothing is trained here
    benchmark = {"seeds": [5], "languages": ["en"], "documents": [12], "questions": 6, "updated": 4}
    result = execute("benchmark_update", data, run_config=config(benchmark=benchmark, writing={"steps": 0}))
    rows = Warehouse(data / "warehouse.duckdb").query("SELECT * FROM benchmarks WHERE benchmark = 'update'")
    return result, rows


def test_every_figure_is_in_the_table(measured):
    result, rows = measured
    assert result.success
    assert set(rows["run_id"]) == {result.run_id}
    assert set(rows["n_documents"]) == {12}
    assert rows["metric"].str.startswith("en/5/").all()
    figures = dict(zip(rows["system"] + " " + rows["metric"].str.removeprefix("en/5/"), rows["value"], strict=True))
    assert {
        "memory rewrite_seconds",
        "memory update_seconds",
        "memory update_load_seconds",
        "memory update_memory_seconds",
        "memory update_share",
        "memory new_questions_count",
        "memory old_questions_count",
        "zrag new_coverage_at_64",
        "zrag old_coverage_at_64",
        "zrag_free old_minus_new_coverage",
        "memory old_documents_delta_constrained",
        "memory updated_leak_coverage",
        "memory updated_floor_coverage",
    } <= set(figures)
    assert figures["memory deleted_text_absent_count"] == 0
    assert figures["memory old_documents_delta_constrained"] == 0
    assert 0 < figures["memory update_memory_seconds"] < figures["memory update_seconds"]
    gap = figures["zrag old_coverage_at_64"] - figures["zrag new_coverage_at_64"]
    assert figures["zrag old_minus_new_coverage"] == pytest.approx(gap)
    units = dict(zip(rows["metric"].str.removeprefix("en/5/"), rows["unit"], strict=True))
    assert (units["update_seconds"], units["update_share"], units["new_questions_count"]) == ("s", "share", "count")
