import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus

from zrag_core.errors import ZragError
from zrag_pipeline.commands.dagster_home import prepare_dagster_home
from zrag_pipeline.platform import paths

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


def test_first_commands_at_once_find_whole_databases(tmp_path):
    shutil.copy(paths.SHIPPED_HOME / "dagster.yaml", tmp_path)
    aside = tmp_path / ".first-use" / "history"  # as a killed command leaves it
    aside.mkdir(parents=True)
    (aside / "runs.db").write_text("half")
    script = "import dagster\nwith dagster.DagsterInstance.get() as instance: print(len(instance.get_runs()))"
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path)}
    commands = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, cwd=CHECKOUT, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [command.communicate(timeout=100)[0] for command in commands] == [b"0\n"] * 3
    assert {path.name for path in tmp_path.iterdir()} == {"dagster.yaml", "history", "schedules", ".first-use.lock"}


def test_a_first_command_that_is_killed_leaves_no_broken_database(tmp_path, monkeypatch):
    shutil.copy(paths.SHIPPED_HOME / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))

    def killed(base_dir):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dagster._core.storage.sqlite_storage.SqliteScheduleStorage.from_local", killed)
        with pytest.raises(KeyboardInterrupt):
            dg.DagsterInstance.get()
    assert not list(tmp_path.glob("history/**/*.db"))
    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs() == []


def test_a_home_that_is_no_folder_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "absent"))
    with pytest.raises(ZragError, match=r"absent: DAGSTER_HOME is no folder -> create the folder"):
        prepare_dagster_home()
    assert not (tmp_path / "absent").exists()
