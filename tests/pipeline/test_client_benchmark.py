"""The client's benchmark writes its figures down; how fast this machine is today is no test."""

import dagster as dg
from pipeline_runs import execute

from zrag_pipeline.defs.benchmarks import client_cost as client_benchmark
from zrag_pipeline.platform.warehouse import Warehouse


def test_the_job_writes_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(client_benchmark, "REQUESTS", 40)
    with dg.DagsterInstance.ephemeral() as instance:
        run = execute("benchmark_client", tmp_path, instance=instance)
    rows = Warehouse(tmp_path / "warehouse.duckdb").query("SELECT * FROM benchmarks WHERE run_id = ?", [run.run_id])
    assert set(rows["benchmark"]) == {"client"}
    named = {(row.system, row.metric): row.value for row in rows.itertuples()}
    times = ("ms_per_request", "cpu_ms_per_request")
    clients = {("client", f"c{n}/{time}") for n in client_benchmark.CONCURRENCIES for time in times}
    assert set(named) == clients | {("bare_http", f"c1/{time}") for time in times} | {("disk", "ms_per_commit")}
    assert all(value > 0 for value in named.values())
    assert set(rows["unit"]) == {"ms"}
