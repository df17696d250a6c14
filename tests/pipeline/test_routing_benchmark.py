"""The job `benchmark_routing`: routing of a small memory, untrained and trained, beside BM25."""

from pipeline_runs import config, execute

from zrag_pipeline.platform.warehouse import Warehouse

SYSTEMS = ("bm25", "router_untrained", "router_trained")


def test_every_system_has_its_recall_with_an_interval(tmp_path):
    result = execute("benchmark_routing", tmp_path, run_config=config())
    rows = Warehouse(tmp_path / "warehouse.duckdb").query("SELECT * FROM benchmarks WHERE benchmark = 'routing'")
    assert result.success
    assert set(rows["run_id"]) == {result.run_id}
    assert set(rows["n_documents"]) == {12}
    assert rows["corpus_version"].notna().all()
    figures = {(row.system, row.metric): row.value for row in rows.itertuples()}
    names = ("recall_at_1", "recall_at_5", "recall_at_10", "mrr")
    shares = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    expected = {(system, metric) for system in SYSTEMS for metric in shares}
    assert set(figures) == expected | {(system, "numbers_per_document") for system in SYSTEMS[1:]}
    assert figures["router_trained", "numbers_per_document"] == 3 * 24
    for system in SYSTEMS:
        assert 0 <= figures[system, "recall_at_1_low"] <= figures[system, "recall_at_1"]
        assert figures[system, "recall_at_1"] <= figures[system, "mrr"] <= figures[system, "recall_at_10"] <= 1
    assert figures["bm25", "recall_at_10"] > 0.5
    units = dict(zip(rows["metric"], rows["unit"], strict=True))
    assert (units["mrr"], units["numbers_per_document"]) == ("share", "numbers")
