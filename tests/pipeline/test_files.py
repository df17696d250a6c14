import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zrag_core.files as files
from zrag_core.files import atomic_folder, write_bytes_atomic, write_json_atomic, write_text_atomic


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text("utf-8") for p in folder.rglob("*") if p.is_file()}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    ).filter(lambda value: "\\ud" not in ascii(value))
)
def test_json_round_trips(tmp_path_factory, value):
    path = write_json_atomic(tmp_path_factory.mktemp("json") / "값.json", value)
    assert json.loads(path.read_text("utf-8")) == value


def test_writing_creates_parents_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a" / "b" / "메모.txt"
    write_text_atomic(path, "하나")
    write_bytes_atomic(path, "둘".encode())
    assert path.read_text("utf-8") == "둘"
    assert list(path.parent.iterdir()) == [path]


def test_files_and_folders_are_as_readable_as_ordinary_ones(tmp_path):
    (tmp_path / "ordinary").mkdir()
    (tmp_path / "ordinary" / "file").write_text("x")
    with atomic_folder(tmp_path / "folder") as folder:
        write_text_atomic(folder / "file", "x")
    for name in ("", "file"):
        ours, ordinary = tmp_path / "folder" / name, tmp_path / "ordinary" / name
        assert ours.stat().st_mode == ordinary.stat().st_mode


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path):
    path = write_json_atomic(tmp_path / "value.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json_atomic(path, {"a": object()})
    with pytest.raises(ValueError, match="nan"):
        write_json_atomic(path, float("nan"))
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_rename_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = write_text_atomic(tmp_path / "file", "old")

    def refuse(*_):
        raise OSError("disk gone")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(OSError, match="disk gone"):
        write_text_atomic(path, "new")
    assert contents(tmp_path) == {"file": "old"}


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_folder_is_replaced_as_a_whole(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    target = tmp_path / "체크포인트"
    with atomic_folder(target) as folder:
        (folder / "only_old").write_text("1")
        assert not target.exists()
    with atomic_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "only_new").write_text("2")
        assert contents(target) == {"only_old": "1"}
    assert contents(target) == {"sub/only_new": "2"}
    assert list(tmp_path.iterdir()) == [target]


def test_failed_block_changes_nothing(tmp_path):
    target = tmp_path / "folder"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")

    def stops_half_way() -> None:
        with atomic_folder(target) as folder:
            (folder / "a").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stops_half_way()
    assert contents(target) == {"a": "old"}
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_in_the_way_is_not_replaced(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(NotADirectoryError, match="is a file"), atomic_folder(tmp_path / "file"):
        pass
    assert contents(tmp_path) == {"file": "precious"}


def test_second_rename_failing_puts_the_old_folder_back(tmp_path, monkeypatch):
    target = tmp_path / "folder"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    rename, calls = os.rename, []

    def fails_once(source, destination):
        calls.append(source)
        if len(calls) == 2:
            raise OSError("no space")
        rename(source, destination)

    monkeypatch.setattr(files.os, "rename", fails_once)
    with pytest.raises(OSError, match="no space"), atomic_folder(target) as folder:
        (folder / "a").write_text("new")
    assert contents(tmp_path) == {"folder/a": "old"}


WRITER = """
import sys
from zrag_core.files import atomic_folder
generation = 0
print("ready", flush=True)
while True:
    generation += 1
    with atomic_folder(sys.argv[1]) as folder:
        for part in range(5):
            (folder / str(part)).write_text(str(generation) * 2000)
"""


def test_a_killed_writer_never_leaves_half_a_folder(tmp_path):
    target = tmp_path / "folder"
    for attempt in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(0.15 + attempt * 0.011)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        found = contents(target)
        assert set(found) == {"0", "1", "2", "3", "4"}
        assert len(set(found.values())) == 1


def test_readers_always_find_the_folder_while_it_is_replaced(tmp_path):
    target = tmp_path / "folder"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("0")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with atomic_folder(target) as folder:
                (folder / "a").write_text("0")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(target.is_dir() for _ in range(20_000))
    finally:
        stop.set()
        writer.join()


def test_leftovers_are_swept_but_not_those_in_use(tmp_path):
    target = tmp_path / "folder"
    dead, young = tmp_path / ".folder.dead.tmp", tmp_path / ".folder.young.tmp"
    dead.mkdir()
    (dead / "part").write_text("x")
    young.mkdir()
    old = time.time() - 3600
    os.utime(dead, (old, old))
    with atomic_folder(target) as in_use:
        os.utime(in_use, (old, old))
        with atomic_folder(target) as second:
            (second / "a").write_text("second")
        assert in_use.is_dir()
    assert not dead.exists()
    assert young.is_dir()
    assert contents(target) == {}
