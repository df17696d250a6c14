from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def instance(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text((CHECKOUT / "dagster_home" / "dagster.yaml").read_text("utf-8"), "utf-8")
    with dg.DagsterInstance.get() as instance:
        yield instance


def test_runs_take_turns_and_nothing_is_sent_home(instance):
    assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 1
    assert not instance.telemetry_enabled
    assert instance.run_monitoring_enabled


def test_state_stays_below_dagster_home(instance, tmp_path):
    @dg.op
    def say():
        print("안녕")

    @dg.job
    def job():
        say()

    run_id = job.execute_in_process(instance=instance).run_id
    assert instance.get_run_by_id(run_id).is_success
    assert list(tmp_path.rglob("runs.db"))
    logs = [path.read_text("utf-8") for path in tmp_path.rglob("*.out")]
    assert logs == ["안녕\n"]


def test_old_ticks_are_forgotten(instance):
    for kind in (InstigatorType.SENSOR, InstigatorType.SCHEDULE):
        kept = instance.get_tick_retention_settings(kind)
        assert all(0 < kept[status] <= 90 for status in TickStatus)


def test_workspace_names_the_code_location():
    workspace = yaml.safe_load((CHECKOUT / "workspace.yaml").read_text("utf-8"))
    assert workspace == {
        "load_from": [{"python_module": {"module_name": "zrag_pipeline.definitions", "location_name": "zrag"}}]
    }
