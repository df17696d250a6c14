import json
import os
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

import zrag_pipeline.platform.handle_store as handles
from zrag_core.errors import ZragError
from zrag_core.files import write_json_atomic
from zrag_pipeline.platform.handle_store import HandleIOManager, handle_io_manager


@dataclass(frozen=True, slots=True)
class CheckpointHandle:
    checkpoint_id: str
    systems: tuple[str, ...]
    size: int | None = None


def definitions(folder, produced, received):
    """Two assets: `memory` hands on produced[0], `report` notes what arrives."""

    @dg.asset(key=["model", "memory"])
    def memory():
        return produced[0]

    @dg.asset(ins={"memory": dg.AssetIn(key=["model", "memory"])})
    def report(memory: CheckpointHandle) -> None:
        received.append(memory)

    @dg.asset(ins={"memory": dg.AssetIn(key=["model", "memory"])})
    def plain(memory) -> None:
        received.append(memory)

    return [memory, report, plain], {"io_manager": HandleIOManager(folder)}


def materialize(folder, produced, received, selection, instance):
    assets, resources = definitions(folder, produced, received)
    return dg.materialize(assets, resources=resources, selection=selection, instance=instance, raise_on_error=True)


MEMORY, REPORT, PLAIN = (dg.AssetSelection.assets(key) for key in (["model", "memory"], "report", "plain"))


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_dataclasses_arrive_as_themselves_and_as_json_where_none_is_asked_for(tmp_path, instance):
    handle, received = CheckpointHandle("체크-1", ("bm25", "dense")), []
    materialize(tmp_path, [handle], received, MEMORY | REPORT | PLAIN, instance)
    as_json = {"checkpoint_id": "체크-1", "systems": ["bm25", "dense"], "size": None}
    assert handle in received
    assert as_json in received
    assert len(received) == 2


def test_a_partial_run_reads_the_latest(tmp_path, instance):
    received = []
    for n in (1, 2):
        materialize(tmp_path, [{"n": n}], received, MEMORY, instance)
    materialize(tmp_path, [None], received, PLAIN, instance)
    assert received == [{"n": 2}]


def test_a_run_reads_what_it_wrote_itself(tmp_path):
    received = []

    @dg.asset
    def memory():
        return {"n": 1}

    @dg.asset(deps=[memory])
    def another_run_writes() -> None:
        write_json_atomic(tmp_path / "memory" / "other-run.json", {"n": 2})
        write_json_atomic(tmp_path / "memory" / "latest.json", {"n": 2})

    @dg.asset(deps=[another_run_writes])
    def report(memory) -> None:
        received.append(memory)

    dg.materialize([memory, another_run_writes, report], resources={"io_manager": HandleIOManager(tmp_path)})
    assert received == [{"n": 1}]


def test_missing_handle_says_how_to_make_it(tmp_path, instance):
    with pytest.raises(ZragError) as caught:
        materialize(tmp_path, [None], [], REPORT, instance)
    error = caught.value
    assert str(error).startswith("asset 'model/memory' has not been materialised yet -> materialise it first: dagster ")
    assert "--select 'model/memory'" in str(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{half", '{"checkpoint": "renamed"}'])
def test_broken_or_outdated_handle_is_one_clear_error(tmp_path, instance, content):
    materialize(tmp_path, [CheckpointHandle("c", ())], [], MEMORY, instance)
    (tmp_path / "model" / "memory" / "latest.json").write_text(content)
    with pytest.raises(ZragError) as caught:
        materialize(tmp_path, [None], [], REPORT, instance)
    message = str(caught.value)
    assert "latest.json: the handle of asset 'model/memory' is broken or of another version" in message
    assert "\n" not in message


@pytest.mark.parametrize("value", [object(), {"tensor": {1, 2}}, float("nan")])
def test_what_is_not_json_is_refused_and_nothing_is_written(tmp_path, instance, value):
    with pytest.raises(ZragError) as caught:
        materialize(tmp_path, [value], [], MEMORY, instance)
    assert str(caught.value).startswith("model/memory: its value cannot be handed on")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_old_handles_are_pruned(tmp_path, instance, monkeypatch):
    monkeypatch.setattr(handles, "KEPT_RUNS", 3)
    folder = tmp_path / "model" / "memory"
    folder.mkdir(parents=True)
    for age in range(6):
        path = folder / f"old-{age}.json"
        path.write_text("{}")
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    run = materialize(tmp_path, [{"n": 1}], [], MEMORY, instance)
    assert {path.name for path in folder.iterdir()} == {f"{run.run_id}.json", "latest.json", "old-0.json", "old-1.json"}


def test_plain_ops_hand_on_values_too(tmp_path):
    @dg.op
    def make() -> dict:
        return {"답": 42}

    @dg.op
    def use(value: dict):
        assert value == {"답": 42}

    @dg.job(resource_defs={"io_manager": dg.IOManagerDefinition.hardcoded_io_manager(HandleIOManager(tmp_path))})
    def job():
        use(make())

    assert job.execute_in_process().success


def test_the_default_place_is_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path))

    @dg.asset
    def corpus_version():
        return {"corpus_version": "v1"}

    result = dg.materialize([corpus_version], resources={"io_manager": handle_io_manager})
    folder = tmp_path / "handles" / "corpus_version"
    for name in (result.run_id, "latest"):
        assert json.loads((folder / f"{name}.json").read_text()) == {"corpus_version": "v1"}


# --- re-execution from failure ----------------------------------------------------------------------


@dg.asset
def a() -> dict:
    return {"from": chain_file("value").read_text()}


@dg.asset
def b(a):
    if chain_file("fail").exists():
        raise RuntimeError("as planned")
    return a


@dg.asset
def c(a, b) -> None:
    chain_file("seen").write_text(json.dumps([a["from"], b["from"]]))


def chain_file(name):
    return Path(os.environ["CHAIN_FOLDER"], name)


def chain_job():
    """a -> b -> c, at module level so that Dagster can build it again for a re-execution."""
    manager = dg.IOManagerDefinition.hardcoded_io_manager(HandleIOManager(chain_file("handles")))
    job = dg.define_asset_job("chain", executor_def=dg.in_process_executor)
    return dg.Definitions([a, b, c], resources={"io_manager": manager}, jobs=[job]).resolve_job_def("chain")


class Chain:
    """Runs of the job on one instance; `again` is the id of the run to execute again from its failure."""

    def __init__(self, instance):
        self.instance = instance

    def run(self, value, *, fail=False, again=None):
        chain_file("value").write_text(value)
        if fail:
            chain_file("fail").touch()
        else:
            chain_file("fail").unlink(missing_ok=True)
        options = again and dg.ReexecutionOptions.from_failure(again, self.instance)
        job = dg.reconstructable(chain_job)
        with dg.execute_job(job, self.instance, reexecution_options=options) as result:
            assert result.success is not fail
            return result.run_id

    def seen(self):
        return json.loads(chain_file("seen").read_text())


@pytest.fixture
def chain(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAIN_FOLDER", str(tmp_path))
    with dg.DagsterInstance.local_temp(str(tmp_path), {"telemetry": {"enabled": False}}) as instance:
        yield Chain(instance)


def test_a_run_executed_again_from_failure_goes_on_with_its_own_values(chain):
    first = chain.run("first", fail=True)
    chain.run("second")
    assert chain.seen() == ["second", "second"]
    chain.run("third", again=first)
    assert chain.seen() == ["first", "first"]


def test_several_failures_in_a_row_lead_back_to_the_first_run(chain):
    first = chain.run("first", fail=True)
    again = chain.run("x", fail=True, again=first)
    once_more = chain.run("y", fail=True, again=again)
    chain.run("second")
    chain.run("third", again=once_more)
    assert chain.seen() == ["first", "first"]
