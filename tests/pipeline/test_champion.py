"""The pointer to the champion: what is written is read, damage is one line, and two writers lose nothing."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from multiprocessing import get_context

import pytest

from zrag_core.errors import CheckpointError
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import (
    Champion,
    all_champions,
    champion_file,
    memory_names,
    read_champion,
    read_champions,
    rejected_checkpoints,
    set_default_memory,
    write_champion,
    write_champions,
)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    folder = tmp_path / "자료 1"
    monkeypatch.setenv("ZRAG_DATA_DIR", str(folder))
    return folder


def champion(number, folder=None):
    folder = folder or paths.checkpoints_dir() / f"memory-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    decoding = {"routed_documents": 2, "steps": 1}
    return Champion(
        f"memory-{number}", folder, "c0ffee", "연감", decoding, "cpu", "2026-01-31T12:00:00+00:00", "더 낫다"
    )


def test_before_any_there_is_none_and_nothing_is_made(data):
    assert read_champion() is None
    assert read_champions() == []
    assert not data.exists()


def test_what_is_written_is_read(tmp_path):
    elsewhere = champion(2, tmp_path / "elsewhere")
    for written in (champion(1), elsewhere):
        write_champion(written)
        assert read_champion() == written
    assert read_champions() == [elsewhere, champion(1)]
    values = json.loads(champion_file().read_text("utf-8"))
    assert values["format_version"] == 2
    assert [entry["folder"] for entry in values["champions"]] == [str(elsewhere.folder), "checkpoints/memory-1"]


def test_the_file_of_the_former_format_is_read_and_written_anew(data):
    write_champion(champion(1))
    write_champion(champion(2))
    values = json.loads(champion_file().read_text("utf-8"))
    first, second = values["champions"]
    champion_file().write_text(
        json.dumps({"format_version": 1, "champion": first, "former": [second], "rejected": ["memory-9"]})
    )
    assert [entry.checkpoint_id for entry in read_champions()] == ["memory-2", "memory-1"]
    assert rejected_checkpoints() == ["memory-9"]
    write_champion(champion(3))
    assert json.loads(champion_file().read_text("utf-8"))["format_version"] == 2
    assert [entry.checkpoint_id for entry in read_champions()] == ["memory-3", "memory-2", "memory-1"]
    assert rejected_checkpoints() == ["memory-9"]


def test_memories_have_champions_of_their_own():
    """The one promoted last is asked, until one is chosen; then it stays that, whatever is promoted elsewhere."""
    mine, other = replace(champion(1), corpus="mine"), replace(champion(2), corpus="other")
    write_champion(mine)
    write_champion(other)
    assert memory_names() == ["other", "mine"]
    assert read_champion() == other
    set_default_memory("mine")
    write_champion(replace(champion(3), corpus="other"))
    assert read_champion() == mine
    assert [entry.checkpoint_id for entry in read_champions("other")] == ["memory-3", "memory-2"]
    assert [entry.checkpoint_id for entry in all_champions()] == ["memory-1", "memory-3", "memory-2"]
    write_champion(replace(champion(4), corpus="new"), default=True)
    assert read_champion().corpus == "new"
    with pytest.raises(CheckpointError, match="there is no memory 'none' -> known: new, "):
        set_default_memory("none")
    write_champions([entry for entry in all_champions() if entry.corpus != "new"])
    assert read_champion().corpus == "other", "the default is gone: the one promoted last"


def test_a_run_of_the_demo_takes_no_memory_of_ones_own_away():
    own, demo = replace(champion(1), corpus="mine", source="/mine"), replace(champion(2), corpus="almanac-en-0-64")
    write_champion(own)
    write_champion(demo)
    assert read_champion() == own
    assert memory_names() == ["mine", "almanac-en-0-64"]
    write_champion(replace(champion(3), corpus="other", source="/other"))
    assert read_champion().corpus == "other"
    set_default_memory("almanac-en-0-64")
    assert read_champion() == demo


def test_the_data_folder_may_be_moved(data, monkeypatch):
    write_champion(champion(1))
    moved = data.rename(data.with_name("moved"))
    monkeypatch.setenv("ZRAG_DATA_DIR", str(moved))
    assert read_champion().folder == moved / "checkpoints" / "memory-1"


def test_former_ones_are_bounded_newest_first_and_never_twice():
    for number in (*range(30), 12, 29):
        write_champion(champion(number))
    ids = [entry.checkpoint_id for entry in read_champions()]
    expected = [29, 12, *(n for n in reversed(range(30)) if n not in (29, 12))][:21]
    assert ids == [f"memory-{number}" for number in expected]


def test_promoting_the_champion_again_renews_its_reason_only():
    write_champion(champion(1))
    write_champion(champion(2))
    again = replace(champion(2), reason="again")
    write_champion(again)
    assert read_champions() == [again, champion(1)]


def test_the_record_can_be_set_as_a_whole():
    write_champion(champion(1))
    write_champions([champion(3), champion(2)])
    assert [entry.checkpoint_id for entry in read_champions()] == ["memory-3", "memory-2"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format_version": 1}',
        '{"format_version": 1, "champion": {"checkpoint_id": "a"}, "former": []}',
        '{"format_version": 1, "champion": null, "former": []}',
        '{"format_version": 2}',
        '{"format_version": 2, "champions": [{"checkpoint_id": "a"}]}',
        b"\xff\xfe",
    ],
    ids=repr,
)
def test_a_damaged_file_is_one_line_with_a_remedy(text):
    write_champion(champion(1))
    champion_file().write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError) as caught:
        read_champion()
    assert str(caught.value).startswith(f"{champion_file()}: the record of the champion is damaged")
    assert "\n" not in str(caught.value)
    assert "make demo" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"), [("decoding", []), ("folder", 3), ("promoted_at", None), ("checkpoint_id", 7), ("more", "x")]
)
def test_a_field_of_another_kind_is_damage(field, value):
    write_champion(champion(1))
    values = json.loads(champion_file().read_text("utf-8"))
    values["champions"][0][field] = value
    champion_file().write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="is damaged"):
        read_champion()


def test_another_format_is_refused():
    write_champion(champion(1))
    champion_file().write_text(champion_file().read_text("utf-8").replace('"format_version": 2', '"format_version": 3'))
    with pytest.raises(CheckpointError, match="format version 3 is not 2"):
        read_champion()


def test_a_champion_whose_folder_is_gone_is_one_line_but_the_record_can_be_read():
    write_champion(champion(1))
    write_champion(champion(2))
    shutil.rmtree(paths.checkpoints_dir() / "memory-2")
    with pytest.raises(CheckpointError, match=r"the champion memory-2 is gone -> .*zrag rollback"):
        read_champion()
    assert [entry.checkpoint_id for entry in read_champions()] == ["memory-2", "memory-1"]


def test_a_damaged_file_is_not_overwritten():
    write_champion(champion(1))
    champion_file().write_text("{")
    with pytest.raises(CheckpointError):
        write_champion(champion(2))
    assert champion_file().read_text() == "{"


def _promote(numbers):
    for number in numbers:
        write_champion(champion(number))


def test_writers_at_the_same_time_lose_nothing():
    context = get_context("fork")
    workers = [context.Process(target=_promote, args=(range(start, 20, 2),)) for start in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert {entry.checkpoint_id for entry in read_champions()} == {f"memory-{number}" for number in range(20)}


def test_reading_it_imports_nothing_heavy():
    write_champion(champion(1))
    code = (
        "import sys; from zrag_pipeline.platform.champion_file import read_champion; assert read_champion(); "
        "print([m for m in ('torch', 'mlflow', 'dagster', 'pandas', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "[]\n"
