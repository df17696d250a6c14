"""`zrag remove --purge`: a document planted in every store is gone afterwards, and nothing else is."""

import gzip
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pytest
from pipeline_runs import CHECKOUT, rows_of
from small_champion import CORPUS, DOCUMENTS, QUESTIONS, TEXTS

from zrag_core.answering.cache import AnswerCache, CachedAnswer
from zrag_core.answering.types import Completion, Prompt
from zrag_core.corpus.overlay import load_overlay, save_overlay
from zrag_core.errors import CorpusError
from zrag_core.files import write_json_atomic
from zrag_core.model.store.checkpoint import load_checkpoint
from zrag_pipeline.cli import main
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import read_champion, read_champions, write_champion
from zrag_pipeline.platform.handles import CheckpointReference
from zrag_pipeline.platform.model_registry import ModelRegistry
from zrag_pipeline.platform.tracing import CallTraces
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse
from zrag_pipeline.purging.target import find_target
from zrag_pipeline.purging.warehouse_rows import purge_warehouse

PURGED = "orrin"
TITLE, TEXT = TEXTS[PURGED]
OTHER = TEXTS["mill"][1]
FIRST = TEXT.split(". ")[0] + "."
QUOTING = f"Of the two: {TEXT} {OTHER}"


# --- a data folder in which the document stands everywhere ----------------------------------------


@pytest.fixture(scope="module")
def planted(towns, tmp_path_factory):
    root = tmp_path_factory.mktemp("planted")
    data, home = root / "data", root / "home"
    shutil.copytree(towns, data)
    home.mkdir()
    shutil.copy(CHECKOUT / "dagster_home" / "dagster.yaml", home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZRAG_DATA_DIR", str(data))
        patch.setenv("DAGSTER_HOME", str(home))
        plant_rows()
        plant_files(data)
        plant_mlflow()
        plant_dagster(home)
    return root


def plant_rows():
    version = read_champion().corpus_version
    base = {"run_id": "r", "corpus_version": version, "system": "bm25", "budget": 64}
    evidence = {"q1": FIRST, "q2": QUOTING, "q3": TEXTS["bees"][1]}
    answers = {"q1": "Kell", "q2": f"Ostel, and {FIRST}", "q3": "a medal"}
    rows = [{**base, "question_id": name, "evidence": text} for name, text in evidence.items()]
    warehouse = Warehouse(paths.warehouse_file())
    warehouse.replace_rows("evidence", rows, {"run_id": "r"})
    rows = [
        {**base, "question_id": name, "reader": "openai", "answer": text, "prompt_hash": f"hash-{name}"}
        for name, text in answers.items()
    ]
    warehouse.replace_rows("answers", rows, {"run_id": "r"})
    rows = [{**base, "question_id": n, "reader": "openai", "split": "test", "question_type": "single"} for n in answers]
    warehouse.replace_rows("scores", rows, {"run_id": "r"})
    with AnswerCache(paths.answer_cache_file()) as cache:
        for name, text in answers.items():
            cache.put(f"hash-{name}", CachedAnswer(text, 1, 1, "m", 0.1))
        cache.put("hash-summary", CachedAnswer("<think>x</think>Towns and bridges of the north.", 1, 1, "m", 0.1))


def plant_files(data):
    version = read_champion().corpus_version
    for folder in (f"indexes/{version}/bm25-passage", f"memorag/kv/{version}", "backbones/zrag-tiny-1"):
        (data / folder).mkdir(parents=True)
        (data / folder / "terms.jsonl").write_text(json.dumps(TEXT.lower().split()), "utf-8")
    # An index of another corpus, which is on record and never held the document.
    other = Warehouse(paths.warehouse_file())
    other.save_corpus("0ther", type(CORPUS)("others", DOCUMENTS[2:3], ()))
    (data / "indexes" / "0ther").mkdir()
    write_json_atomic(data / "memorag/summaries/a.json", {"summary": "Towns and bridges of the north."})
    write_json_atomic(data / "handles/documents/latest.json", {"note": f"first: {FIRST}", "name": "towns"})
    (data / "reports").mkdir(exist_ok=True)
    marked = FIRST.replace("Kell", "<mark>Kell</mark>")
    (data / "reports" / "r.html").write_text(f"<p>{marked} {OTHER}</p>", "utf-8")
    (data / "checkpoints/.training/f/step-3").mkdir(parents=True)
    (data / ".warehouse.duckdb.0123456789ab.tmp").write_bytes(TEXT.encode())
    unfinished = data / "checkpoints" / ".memory-1.0123456789ab.tmp"
    unfinished.mkdir()
    (unfinished / "documents.jsonl").write_text(TEXT, "utf-8")


def plant_mlflow():
    import pandas as pd

    tracking = Tracking(paths.data_path())
    params = {"note": TEXT, "other": OTHER}
    quoted = TEXT.replace(". ", ".\n> ")
    with tracking.run("answers", asset="answers", params=params) as run:
        run.set_tags({"quote": f"{TITLE} and others"})
        run.log_dataset("towns", "v", {"first": FIRST}, source="towns")
        run.log_table(pd.DataFrame({"question": [QUESTIONS[0].question, "other?"], "evidence": [TEXT, OTHER]}), "q")
        run.log_text(f"# Report\n\n> {quoted}\n{OTHER}\n", "report.md")
        prompt = Prompt([{"role": "user", "content": f"Evidence: {QUOTING}"}], 10, {"purpose": "answer"})
        with CallTraces(tracking, run, model_of={"answer": "m"}, limit=5, log=print) as traces:
            traces.record(prompt, Completion(f"It says: {FIRST}", 3, 4, 0.1, 5.0, False, "h"))
        assert traces.written == 1
        champion = read_champion()
        made = CheckpointReference(champion.checkpoint_id, champion.folder, champion.corpus_version)
        ModelRegistry(tracking).register(run, "zrag", made)


def plant_dagster(home):
    @dg.asset
    def documents(context):
        context.log.info(f"read: {TEXT}")
        print(f"printed: {TEXT}")
        preview = f"| id | text |\n|---|---|\n| {PURGED} | {TEXT[:60]}… |\n| mill | {OTHER} |"
        return dg.MaterializeResult(metadata={"preview": dg.MetadataValue.md(preview), "rows": 5})

    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert dg.materialize([documents], instance=instance).success
    (home / "storage" / "x").mkdir(parents=True, exist_ok=True)
    (home / "storage" / "x" / "step.out").write_text(f"read: {TEXT}\nand {OTHER}\n", "utf-8")


@pytest.fixture
def stores(planted, tmp_path, monkeypatch):
    """A copy that may be changed; MLflow's absolute paths are bent to it."""
    for name in ("data", "home"):
        shutil.copytree(planted / name, tmp_path / name, symlinks=True)
    with closing(sqlite3.connect(tmp_path / "data" / "mlflow.db")) as con:
        for table, column in (
            ("runs", "artifact_uri"),
            ("experiments", "artifact_location"),
            ("model_versions", "source"),
        ):
            con.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(planted), str(tmp_path)))
        con.commit()
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    return tmp_path


# --- an oracle that knows nothing of how the erasing looks for text -------------------------------


def everything(root):
    """(place, text) of every file's bytes, and of every value in every database."""
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # SQLite's own, until its last connection is closed
            continue
        yield str(path), data.decode("utf-8", "ignore")
        if data.startswith(b"SQLite"):
            with closing(sqlite3.connect(path)) as con:
                for (table,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    for row in con.execute(f'SELECT * FROM "{table}"'):
                        for value in row:
                            if isinstance(value, bytes) and value[:1] == b"\x78":
                                value = zlib.decompress(value).decode()
                            yield f"{path} {table}", str(value)
        elif data[8:12] == b"DUCK":
            with closing(duckdb.connect(str(path), read_only=True)) as con:
                for (table,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                    for row in con.execute(f"SELECT * FROM {table}").fetchall():
                        yield f"{path} {table}", repr(row)


def left(root, text=TEXT, others=None, words=3):
    """Places that hold so many words of the text in a row that no other text does."""
    every = re.findall(r"\w+", text)
    runs = [re.compile(r"\W+(?:<[^>]*>\W*)*".join(every[i : i + words])) for i in range(len(every) - words + 1)]
    others = " ".join(t for title, t in TEXTS.values() if t != TEXT) if others is None else others
    runs = [run for run in runs if not run.search(others)]
    assert len(runs) > 3
    return {place for place, held in everything(root) if any(run.search(held) for run in runs)}


def test_the_oracle_sees_what_was_planted(planted):
    places = " ".join(left(planted))
    for part in (
        "warehouse.duckdb documents",
        "warehouse.duckdb evidence",
        "answer_cache.sqlite answers",
        "mlflow.db params",
        "mlflow.db datasets",
        "mlflow.db spans",
        "q.json",
        "report.md",
        "reports/r.html",
        "handles",
        "index.db event_logs",
        "index.db asset_keys",
        "documents.jsonl",
        "step.out",
        ".warehouse.duckdb.0123456789ab.tmp",
        "artifacts/checkpoint/documents.jsonl",
    ):
        assert part in places, part


# --- erasing --------------------------------------------------------------------------------------


def purge(*ids):
    return main(["remove", "--purge", "--yes", *(ids or (PURGED,))])


def test_a_document_is_erased_everywhere_and_nothing_else_is(stores, capsys):
    data = stores / "data"
    before = load_checkpoint(read_champion().folder, device="cpu")
    assert purge() == 0
    out = capsys.readouterr().out
    assert re.search(r"proof: +searched \d+ files, \d+ tables: nothing left", out), out
    assert left(stores) == set()
    assert not any(TITLE in text for _, text in everything(stores))

    after = load_checkpoint(read_champion().folder, device="cpu")
    assert [d.id for d in after.documents] == [d.id for d in DOCUMENTS if d.id != PURGED]
    assert rows_of(after) == {key: row for key, row in rows_of(before).items() if key != PURGED}
    assert [entry.folder for entry in read_champions()] == [after.folder], "there is no way back to the others"
    assert set(load_overlay(paths.overlay_dir(CORPUS.name)).removed) == {PURGED}

    warehouse = Warehouse(paths.warehouse_file())
    found = {t: set(warehouse.query(f"SELECT question_id FROM {t}")["question_id"]) for t in ("answers", "evidence")}
    assert found == {"answers": {"q3"}, "evidence": {"q3"}}
    assert set(warehouse.query("SELECT question_id FROM scores")["question_id"]) == {"q2", "q3"}
    assert set(warehouse.query("SELECT question_id FROM questions")["question_id"]) == {"q2", "q3"}
    assert warehouse.query("SELECT count(*) AS n FROM leaderboard")["n"][0] == 0, "views are there"
    with AnswerCache(paths.answer_cache_file()) as cache:
        assert [cache.get(f"hash-{n}") is None for n in ("q1", "q2", "q3", "summary")] == [True, True, False, True]

    assert {path.name for path in (data / "indexes").iterdir()} == {"0ther"}
    assert not list((data / "memorag").rglob("*.json*"))
    assert not list((data / "checkpoints" / ".training").iterdir())
    assert (data / "reports" / "r.html").read_text("utf-8") == f"<p>[purged]<mark></mark>. {OTHER}</p>"
    assert json.loads((data / "handles/documents/latest.json").read_text("utf-8")) == {
        "note": "first: [purged].",
        "name": "towns",
    }


def test_mlflow_and_dagster_work_afterwards(stores):
    assert purge() == 0
    tracking = Tracking(stores / "data")
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    assert run.data.params["other"] == OTHER
    assert run.data.params["note"].startswith("[purged]")
    assert run.data.tags["quote"] == "[purged] and others"
    (table,) = (stores / "data" / "mlartifacts").rglob("q.json")
    assert json.loads(table.read_text("utf-8"))["data"] == [["[purged]?", "[purged]."], ["other?", OTHER]]
    (trace,) = tracking.client.search_traces(locations=[tracking.experiment_id])
    assert "[purged]" in json.dumps(trace.to_dict(), default=str)
    assert tracking.client.search_model_versions("name='zrag'") == [], "its checkpoint is gone"
    with dg.DagsterInstance.from_config(str(stores / "home")) as instance:
        (record,) = instance.get_runs()
        assert len(instance.all_logs(record.run_id)) > 5
        event = instance.get_latest_materialization_event(dg.AssetKey("documents"))
        preview = event.asset_materialization.metadata["preview"].value
    assert f"| {PURGED} | [purged]… |" in preview
    assert OTHER in preview
    assert (stores / "home/storage/x/step.out").read_text("utf-8") == f"read: [purged].\nand {OTHER}\n"


def test_repeating_it_finds_nothing_more_to_do(stores, capsys):
    purge()
    files = {p: p.stat().st_mtime_ns for p in (stores / "data").rglob("documents.jsonl")}
    capsys.readouterr()
    assert purge() == 0
    assert "nothing is on record of orrin" in capsys.readouterr().out
    assert files == {p: p.stat().st_mtime_ns for p in (stores / "data").rglob("documents.jsonl")}


def test_what_was_removed_before_can_still_be_erased(stores):
    assert main(["remove", PURGED]) == 0
    assert left(stores)
    assert purge() == 0
    assert left(stores) == set()


@pytest.mark.parametrize("kind", ["text", "gzip", "npz", "npy", "sqlite", "duckdb", "parquet", "utf-16"])
def test_what_stands_in_an_unexpected_place_fails_the_proof_until_it_is_gone(stores, capsys, kind):
    place = stores / "data" / "somewhere" / "else.bin"
    place.parent.mkdir()
    if kind == "text":
        place.write_text(f"x {FIRST.upper()}", "utf-8")
    elif kind == "gzip":
        place.write_bytes(gzip.compress(TEXT.encode()))
    elif kind == "npz":
        with place.open("wb") as file:
            np.savez_compressed(file, a=np.array([TEXT]))
    elif kind == "npy":
        with place.open("wb") as file:
            np.save(file, np.array([TEXT]))
    elif kind == "utf-16":
        place.write_bytes(TEXT.encode("utf-16"))
    elif kind == "sqlite":
        with closing(sqlite3.connect(place)) as con:
            con.execute("CREATE TABLE t (x)")
            con.execute("INSERT INTO t VALUES (?)", (zlib.compress(TEXT.encode()),))
            con.commit()
    else:
        with closing(duckdb.connect(str(place) if kind == "duckdb" else ":memory:")) as con:
            con.execute("CREATE TABLE t AS SELECT [{'a': ?}] AS x FROM range(3000)", [TEXT])
            if kind == "parquet":
                con.execute(f"COPY t TO '{place}' (FORMAT parquet)")
    assert purge() == 1
    out = capsys.readouterr().out
    assert "NOT ERASED" in out
    assert str(place) in out
    warehouse = Warehouse(paths.warehouse_file())
    held = warehouse.query("SELECT count(*) AS n FROM documents WHERE document_id = ?", [PURGED])
    assert held["n"][0] > 0, "the text is needed to search again"
    if kind == "text":
        place.unlink()
        assert purge() == 0
        assert left(stores) == set()


def test_a_file_that_cannot_be_searched_proves_nothing(stores, capsys):
    (stores / "data" / "broken.db").write_bytes(b"SQLite format 3\x00" + b"nothing" * 400)
    assert purge() == 1
    assert "broken.db: cannot be searched" in capsys.readouterr().out


def test_it_asks_first_and_not_where_nobody_can_answer(stores, capsys, monkeypatch):
    assert main(["remove", "--purge", PURGED]) == 1
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin.readline", lambda: "n\n")
    assert main(["remove", "--purge", PURGED]) == 1
    out = capsys.readouterr().out
    assert "nothing was erased" in out
    assert FIRST not in out
    assert left(stores)


def test_an_unknown_id_is_one_line(stores, capsys):
    assert purge("nobody") == 1
    assert "no document 'nobody' is on record" in capsys.readouterr().err


def test_a_run_in_progress_is_waited_for(stores, capsys):
    with dg.DagsterInstance.from_config(str(stores / "home")) as instance:
        run = dg.DagsterRun(job_name="full", status=dg.DagsterRunStatus.STARTED)
        instance.add_run(run)
    assert purge() == 1
    assert f"the run {run.run_id} of the job `full` is started" in capsys.readouterr().err
    assert left(stores)


def test_a_sentence_of_another_document_stays(stores, tmp_path, capsys):
    shared = tmp_path / "twin.jsonl"
    shared.write_text(json.dumps({"id": "twin", "title": "Twin", "text": f"{FIRST} Nothing else is known."}), "utf-8")
    main(["add", str(shared)])
    assert purge() == 0
    # The title and the sentence.
    assert "not looked for: 2 that other documents" in capsys.readouterr().out
    checkpoint = read_champion().folder
    assert FIRST in (checkpoint / "documents.jsonl").read_text("utf-8")
    assert not any(TEXT.split(". ")[1] in text for _, text in everything(stores))


def test_a_warehouse_that_cannot_be_rewritten_stays_as_it_was(stores, monkeypatch):
    file = paths.warehouse_file()
    target, before = find_target([PURGED]), file.read_bytes()
    monkeypatch.setattr("zrag_pipeline.purging.warehouse_rows.shutil.copymode", lambda *_: os.stat("no such file"))
    with pytest.raises(FileNotFoundError):
        purge_warehouse(file, target)
    assert file.read_bytes() == before
    assert not list(file.parent.glob(".warehouse*.tmp*"))


STEPS = ("search", "swap", "proof")


@pytest.mark.slow
def test_a_purge_that_was_killed_is_finished_by_repeating_it(planted, tmp_path, monkeypatch):
    homes = {}
    for step in STEPS:
        homes[step] = tmp_path / step
        for name in ("data", "home"):
            shutil.copytree(planted / name, homes[step] / name)
    command = ["remove", "--purge", "--yes", PURGED]
    runs = [json.dumps([str(homes[step] / "data"), step, command]) for step in STEPS]
    script = Path(__file__).with_name("killed_command.py")
    done = subprocess.run([sys.executable, script, *runs], capture_output=True, text=True, timeout=240)
    assert done.stdout.split("\n")[-2] == str(int(signal.SIGKILL)), done.stderr
    for step, root in homes.items():
        monkeypatch.setenv("ZRAG_DATA_DIR", str(root / "data"))
        monkeypatch.setenv("DAGSTER_HOME", str(root / "home"))
        assert purge() == 0, step
        assert left(root) == set(), step


# --- what protects a text, and what does not ------------------------------------------------------


def add(folder, name, text):
    """Add a document by command; the file goes again, so that it is not found beside the stores."""
    file = folder / f"{name}.jsonl"
    file.write_text(json.dumps({"id": name, "title": "", "text": text}), "utf-8")
    assert main(["add", str(file)]) == 0
    file.unlink()


def test_a_renamed_document_is_erased_under_its_former_name_too(stores, tmp_path):
    assert main(["remove", PURGED]) == 0
    add(tmp_path, "painter", TEXT)
    assert left(stores)
    assert purge("painter") == 0
    assert left(stores) == set()
    warehouse = Warehouse(paths.warehouse_file())
    assert set(warehouse.query("SELECT question_id FROM questions")["question_id"]) == {"q2", "q3"}


def test_passages_that_were_numbered_anew_are_erased_under_both_numbers_and_their_neighbours_are_not(stores):
    """A heading came first: what was number 1 is number 2 now, and what was number 2 is another passage."""
    champion = read_champion()
    texts = ["The heading of the whole file stands here.", TEXT, OTHER]
    old, new = texts[1:], texts
    question = QUESTIONS[1]
    for version, passages in (("old", old), ("new", new)):
        documents = tuple(
            type(DOCUMENTS[0])(f"notes.md#{n}", "", text, "notes.md", n) for n, text in enumerate(passages, 1)
        )
        about = type(question)("q", "Who made the wheel of the mill?", ("Bram Kilto",), (documents[-1].id,))
        Warehouse(paths.warehouse_file()).save_corpus(version, type(CORPUS)(champion.corpus, documents, (about,)))
    assert purge(PURGED) == 1, "it stands in notes.md#2"
    assert purge("notes.md#2", PURGED) == 0
    assert left(stores) == set()
    rows = Warehouse(paths.warehouse_file()).query(
        "SELECT corpus_version, document_id FROM documents WHERE corpus_version IN ('old', 'new')"
    )
    assert set(rows.itertuples(index=False, name=None)) == {
        ("old", "notes.md#2"),
        ("new", "notes.md#1"),
        ("new", "notes.md#3"),
    }
    asked = Warehouse(paths.warehouse_file()).query("SELECT corpus_version FROM questions WHERE question_id = 'q'")
    assert set(asked["corpus_version"]) == {"old", "new"}, "about a passage that stays"


def test_a_corpus_that_was_read_under_another_name_too_loses_the_document_as_well(stores):
    Warehouse(paths.warehouse_file()).save_corpus("c0py", type(CORPUS)("copy", DOCUMENTS, QUESTIONS))
    assert purge() == 0
    assert left(stores) == set()
    assert set(load_overlay(paths.overlay_dir("copy")).removed) == {PURGED}


def test_a_tombstone_keeps_the_newest_version_from_protecting_a_text(stores):
    twin = type(DOCUMENTS[0])("twin", "", TEXT, "twin")
    warehouse = Warehouse(paths.warehouse_file())
    warehouse.save_corpus("newest", type(CORPUS)(CORPUS.name, (*DOCUMENTS, twin), ()))
    with pytest.raises(CorpusError, match="'twin'"):
        find_target([PURGED])
    folder = paths.overlay_dir(CORPUS.name)
    save_overlay(folder, load_overlay(folder).with_removed({"twin": [twin]}))
    assert set(find_target([PURGED]).held) >= {("newest", PURGED), ("newest", "twin")}


@pytest.mark.parametrize("corpus", ["towns", "copy"])
def test_a_text_that_another_document_holds_whole_is_not_reported_as_erased(stores, tmp_path, capsys, corpus):
    held = f"Before it. {TEXT} And after it."
    if corpus == "towns":
        add(tmp_path, "twin", held)
    else:
        documents = (type(DOCUMENTS[0])("twin", "", held, "twin"),)
        Warehouse(paths.warehouse_file()).save_corpus("c0py", type(CORPUS)("copy", documents, ()))
    champion = read_champion()
    capsys.readouterr()
    assert purge() == 1
    err = capsys.readouterr().err
    assert f"'twin' (corpus {corpus})" in err
    assert "nothing was erased" in err
    assert err.count("\n") == 1
    assert read_champion() == champion
    assert PURGED in {document.id for document in load_checkpoint(champion.folder, device="cpu").documents}
    assert purge(PURGED, "twin") == 0
    assert left(stores) == set()


# --- a champion that cannot be updated ------------------------------------------------------------


def make_joint(folder):
    """Take away what an update must know, as a joint memory lacks it."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    del config["skill"], config["writing"]
    write_json_atomic(folder / "config.json", config)


def test_a_champion_that_cannot_be_updated_makes_way_for_the_newest_one_without_the_document(stores, capsys):
    first = read_champion()
    main(["remove", PURGED])
    without = read_champion()
    write_champion(replace(first, reason="promoted by hand"))
    make_joint(first.folder)
    assert load_checkpoint(first.folder, device="cpu").origin is None
    capsys.readouterr()
    assert purge() == 0
    assert f"{without.checkpoint_id} again" in capsys.readouterr().out
    assert left(stores) == set()
    assert [entry.checkpoint_id for entry in read_champions()] == [without.checkpoint_id]
    assert not first.folder.exists()


def test_without_such_a_one_there_is_no_champion(stores, capsys):
    make_joint(read_champion().folder)
    assert purge() == 0
    assert "none; run the job `full`" in capsys.readouterr().out
    assert left(stores) == set()
    assert read_champion() is None
    assert set(load_overlay(paths.overlay_dir(CORPUS.name)).removed) == {PURGED}


def test_the_last_documents_can_be_erased(stores):
    assert purge(*TEXTS) == 0
    assert left(stores) == set()
    assert read_champion() is None
    assert set(load_overlay(paths.overlay_dir(CORPUS.name)).removed) == set(TEXTS)
    assert Warehouse(paths.warehouse_file()).query("SELECT document_id FROM documents").empty
