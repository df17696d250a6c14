"""`zrag add` and `zrag remove`: what they do to the champion, and that stopping them half-way does no harm."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pipeline_runs import rows_of
from small_champion import CORPUS, DOCUMENTS, QUESTIONS

from zrag_core.corpus.overlay import load_overlay
from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, Document
from zrag_core.corpus.version import corpus_version
from zrag_core.model.store.checkpoint import load_checkpoint, memory_id
from zrag_core.settings import TargetSettings
from zrag_pipeline.cli import main
from zrag_pipeline.defs.champion import corpus_changes
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import read_champion, read_champions
from zrag_pipeline.platform.warehouse import Warehouse

NEW = {"id": "ferry", "title": "Ferry", "text": "The ferry of Quarn crosses the lake twice a day."}
CHANGED = {"id": "tarn", "title": "Tarn Bridge", "text": "Tarn Bridge was torn down. The river Ostel took it away."}


@pytest.fixture
def data(towns, tmp_path, monkeypatch):
    """A data folder of its own with the champion."""
    shutil.copytree(towns, tmp_path / "자료")
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "자료"))
    return tmp_path / "자료"


@pytest.fixture
def more(tmp_path):
    """A file with a new document and a changed one."""
    file = tmp_path / "more.jsonl"
    file.write_text("\n".join(map(json.dumps, [NEW, CHANGED])), "utf-8")
    return file


def memory():
    """Rows of the champion by document id, and its documents."""
    checkpoint = load_checkpoint(read_champion().folder, device="cpu")
    assert checkpoint.id == read_champion().checkpoint_id
    assert corpus_version(checkpoint.documents) == read_champion().corpus_version
    return rows_of(checkpoint), {d.id: d for d in checkpoint.documents}


# --- what they do ---------------------------------------------------------------------------------


def test_added_and_changed_documents_are_in_the_memory_and_the_others_bit_for_bit_the_same(data, more, capsys):
    former = read_champion()
    before, _ = memory()
    assert main(["add", str(more)]) == 0
    out = capsys.readouterr().out
    assert "documents: 1 added, 1 changed, 0 removed, 4 unchanged" in out
    assert "s per document written" in out
    assert "update_memory" in out
    after, documents = memory()
    assert documents["ferry"].text == NEW["text"]
    assert documents["tarn"].text == CHANGED["text"]
    assert list(documents) == ["orrin", "tarn", "mill", "bees", "마을", "ferry"]
    same = before.keys() - {"tarn"}
    assert all(before[name] == after[name] for name in same)
    assert before["tarn"]["slots.numbers"] != after["tarn"]["slots.numbers"]
    newest, *history = read_champions()
    assert [entry.checkpoint_id for entry in history] == [former.checkpoint_id], "kept for rolling back"
    assert former.folder.is_dir()
    assert (newest.corpus, newest.decoding) == (former.corpus, former.decoding)
    assert "zrag add more.jsonl" in newest.reason


def test_the_changed_corpus_is_on_record_with_its_questions_and_targets(data, more):
    main(["add", str(more)])
    main(["remove", "bees"])
    version = read_champion().corpus_version
    warehouse = Warehouse(paths.warehouse_file())
    stored = warehouse.load_corpus(version)
    assert [d.id for d in stored.documents] == ["orrin", "tarn", "mill", "마을", "ferry"]
    assert stored.questions == (*QUESTIONS[:2],)
    targets = {t.id: t for t in warehouse.load_targets(version)}
    assert targets == {t.id: t for t in build_targets(stored, TargetSettings(), 0)}
    assert set(load_overlay(paths.overlay_dir(CORPUS.name)).removed) == {"bees"}


def test_a_removed_document_is_in_no_file_of_the_new_checkpoint(data, capsys):
    main(["remove", "마을", "orrin"])
    assert "documents: 0 added, 0 changed, 2 removed, 3 unchanged" in capsys.readouterr().out
    rows, documents = memory()
    assert set(rows) == set(documents) == {"tarn", "mill", "bees"}
    held = b"".join(file.read_bytes() for file in read_champion().folder.rglob("*") if file.is_file())
    for gone in ("하늘마을", "김보람", "Orrin Vale", "harbours"):
        assert gone.encode() not in held


@pytest.mark.parametrize("command", ["add", "remove"])
def test_while_the_warehouse_is_held_nothing_changes_and_no_question_is_lost(data, more, command, monkeypatch, capsys):
    arguments, champions = [command, str(more) if command == "add" else "bees"], read_champions()
    code = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    holder = [sys.executable, "-c", code, str(paths.warehouse_file())]
    with monkeypatch.context() as patient:
        patient.setitem(Warehouse.__init__.__kwdefaults__, "timeout_s", 0.2)
        with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "held\n"
            assert main(arguments) != 0
            process.stdin.close()
    assert "the warehouse is held by another process" in capsys.readouterr().err
    assert read_champions() == champions
    assert main(arguments) == 0
    kept = QUESTIONS if command == "add" else QUESTIONS[:2]
    assert Warehouse(paths.warehouse_file()).load_corpus(read_champion().corpus_version).questions == (*kept,)


def test_a_command_that_is_repeated_changes_nothing_more(data, more, capsys):
    for command in (["add", str(more)], ["remove", "bees"]):
        assert main(command) == 0
        champion = read_champions()
        capsys.readouterr()
        assert main(command) == 0
        assert "holds this already" in capsys.readouterr().out
        assert read_champions() == champion


def test_what_was_removed_can_be_added_again(data, tmp_path):
    before, _ = memory()
    main(["remove", "bees"])
    again = tmp_path / "again.jsonl"
    (bees,) = (d for d in DOCUMENTS if d.id == "bees")
    again.write_text(json.dumps({"id": "bees", "title": bees.title, "text": bees.text}), "utf-8")
    main(["add", str(again)])
    after, documents = memory()
    assert documents["bees"] == bees
    assert after["bees"].keys() == before["bees"].keys()
    for name, own in after["bees"].items():
        if name.endswith(".numbers"):  # another batch may round to the next one
            numbers = [np.frombuffer(data, np.int8).astype(int) for data in (own, before["bees"][name])]
            assert abs(numbers[0] - numbers[1]).max() <= 1
        elif name.endswith(".scale"):
            np.testing.assert_allclose(*(np.frombuffer(data, np.float16) for data in (own, before["bees"][name])), 1e-3)
        else:
            assert own == before["bees"][name], name
    assert load_overlay(paths.overlay_dir(CORPUS.name)).removed == {}


def test_removing_and_adding_again_loses_no_question_and_no_target(data, tmp_path):
    warehouse, champion = Warehouse(paths.warehouse_file()), read_champion()
    version = champion.corpus_version
    own = [*warehouse.load_targets(version)]
    own[0] = replace(own[0], query="What would an LLM have asked about this?", method="llm")
    assert "bees" in {name for target in own for name in target.document_ids}
    warehouse.save_targets(version, own)
    again = tmp_path / "again.jsonl"
    (bees,) = (d for d in DOCUMENTS if d.id == "bees")
    again.write_text(json.dumps({"id": "bees", "title": bees.title, "text": bees.text}), "utf-8")
    assert main(["remove", "bees"]) == 0
    assert main(["add", str(again)]) == 0
    assert read_champion().corpus_version == version
    assert warehouse.load_corpus(version).questions == QUESTIONS
    assert list(warehouse.load_targets(version)) == own
    origin = load_checkpoint(read_champion().folder, device="cpu")
    stored = warehouse.load_corpus(version)
    expected = memory_id(origin.origin.skill_digest, stored, own, origin.settings, origin.origin.writing)
    assert read_champion().checkpoint_id == expected, "as if it had been written of what is on record"


def test_a_dry_run_says_what_would_change_and_changes_nothing(data, more, capsys):
    files = sorted(data.rglob("*"))
    assert main(["add", str(more), "--dry-run"]) == 0
    assert capsys.readouterr().out == "would add:    ferry\nwould change: tarn\n"
    assert sorted(data.rglob("*")) == files


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["remove", "orrin", "nobody"], "no document 'nobody' in the memory"),
        (["remove", *(d.id for d in DOCUMENTS)], "every document was removed"),
        (["add", "no-such-file.jsonl"], "no such file"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(data, capsys, command, problem):
    before = read_champions()
    assert main(command) == 1
    err = capsys.readouterr().err
    assert problem in err
    assert err.count("\n") == 1
    assert read_champions() == before
    assert load_overlay(paths.overlay_dir(CORPUS.name)).empty


def test_without_a_champion_one_line_says_what_to_do(tmp_path, monkeypatch, more, capsys):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "empty"))
    for command in (["add", str(more)], ["remove", "orrin"]):
        assert main(command) == 1
        assert "there is no champion yet" in capsys.readouterr().err


def test_targets_of_unchanged_documents_stay_as_they_are(data):
    """Rows are refined on them, so another choice of sentences would write every row anew."""
    warehouse = Warehouse(paths.warehouse_file())
    champion = read_champion()
    own = build_targets(CORPUS, TargetSettings(self_study_per_sentence=1), 7)
    warehouse.save_targets(champion.corpus_version, own)
    overlay = load_overlay(paths.overlay_dir("towns")).with_added([Document("new", "", "A new one is here.", "new")])
    after, targets = corpus_changes.changed_corpus(champion, DOCUMENTS, overlay, warehouse)
    assert [t for t in targets if "new" not in t.document_ids] == own
    assert [t.document_ids for t in targets if "new" in t.document_ids] == [("new",), ("new",)]
    assert isinstance(after, Corpus)


def test_neither_mlflow_nor_dagster_is_imported(data, more):
    code = (
        "import sys; from zrag_pipeline.cli import main; "
        f"assert main(['add', {str(more)!r}]) == 0; assert main(['remove', 'bees']) == 0; "
        "print({name for name in sys.modules if name in ('mlflow', 'dagster', 'peft')})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"


# --- kill -9 --------------------------------------------------------------------------------------


STEPS = ("overlay", "inside the warehouse", "inside the checkpoint", "inside the pointer")


@pytest.mark.slow
def test_a_command_that_was_killed_left_the_champion_and_can_be_repeated(towns, more, tmp_path, monkeypatch, capsys):
    folders = {step: tmp_path / step for step in STEPS}
    for folder in folders.values():
        shutil.copytree(towns, folder)
    runs = [json.dumps([str(folder), step, ["add", str(more)]]) for step, folder in folders.items()]
    script = Path(__file__).with_name("killed_command.py")
    done = subprocess.run([sys.executable, script, *runs], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(int(signal.SIGKILL))] * len(STEPS), done.stderr
    for step, folder in folders.items():
        monkeypatch.setenv("ZRAG_DATA_DIR", str(folder))
        assert read_champion().reason == "a test"
        assert memory()[1] == {d.id: d for d in DOCUMENTS}, step
        assert load_overlay(paths.overlay_dir(CORPUS.name)).empty == (step == "overlay")
        capsys.readouterr()
        assert main(["add", str(more)]) == 0
        assert "1 added, 1 changed" in capsys.readouterr().out, step
        assert set(memory()[1]) == {*(d.id for d in DOCUMENTS), "ferry"}
