"""Bad input: one clear message (what, where, remedy), an exit code that says so, and nothing lost or half-written."""

import contextlib
import ctypes
import json
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dagster as dg
import pytest
from pipeline_runs import config, execute, run_command

from zrag_core.corpus.read import read_corpus
from zrag_core.errors import ZragError
from zrag_core.settings import CorpusSettings
from zrag_pipeline.platform.warehouse import Warehouse

KEY = "key-4815162342-never-shown"
GOOD = {"id": "d1", "title": "Tarn", "text": "Tarn lies at a lake."}
ASKED = {"id": "q1", "question": "Where does Tarn lie?", "golden_answers": ["lake"], "doc_ids": ["d1"]}


def lines(*rows):
    """Rows as JSONL; a string goes in as it is."""
    return "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)


def corpus_folder(folder, documents, questions=""):
    folder.mkdir()
    (folder / "corpus.jsonl").write_text(documents, "utf-8")
    if questions:
        (folder / "questions.jsonl").write_text(questions, "utf-8")
    return folder


def native(folder):
    return {"format": "native", "location": str(folder)}


def contents(data: Path):
    """Every table's rows, as a count and a hash, and the names of all files."""
    warehouse = Warehouse(data / "warehouse.duckdb", timeout_s=5)
    tables = warehouse.query("SELECT table_name FROM duckdb_tables()")["table_name"]
    rows = {t: warehouse.query(f"SELECT count(*) AS n, bit_xor(hash(t)) AS h FROM {t} t").to_numpy() for t in tables}
    folders = (data / name for name in ("checkpoints", "indexes", "handles", "backbones"))
    files = {str(path.relative_to(data)) for folder in folders for path in folder.rglob("*")}
    # The skill does not depend on the corpus: it is made where the corpus is bad, too.
    files = {name for name in files if not name.startswith("handles/skill/")}
    return {name: value.tolist() for name, value in rows.items()}, files


@pytest.fixture
def unharmed(own_lineage):
    """The data folder of an earlier run; what it held must still be there, and nothing else, after the test."""
    before = contents(own_lineage.data)
    yield own_lineage.data
    assert contents(own_lineage.data) == before
    assert list(own_lineage.data.rglob("*.tmp")) == []


def assert_one_clear_message(text, step, *parts):
    assert "Traceback" not in text
    assert "Stack Trace" not in text
    assert 'File "' not in text
    failures = re.findall(r"^\S+ +(\S+) +FAILED: ", text, flags=re.M)
    assert failures == [step], text
    assert text.count("RUN FAILED") == 1
    assert not re.search(r"^\S+ +\S+ +ERROR", text, flags=re.M), text
    for part in parts:
        assert part in text


# --- the corpus -----------------------------------------------------------------------------------

BAD_CORPORA = {
    "no text": (lines(GOOD, {"id": "d2", "title": "섬"}), "", "corpus.jsonl:2: no text"),
    "duplicate ids": (lines(GOOD, GOOD), "", "corpus.jsonl:2: id 'd1' is already used at line 1"),
    "missing document": (
        lines(GOOD),
        lines(ASKED | {"doc_ids": ["d9"]}),
        "questions.jsonl:1: doc_ids names 'd9', which is not in the corpus",
    ),
    "broken JSON": (lines(GOOD, "", '{"id": "d3", "text": "half'), "", "corpus.jsonl:3: broken JSON ("),
}


@pytest.mark.parametrize("name", BAD_CORPORA)
def test_a_bad_row_is_named_by_file_line_and_reason(name, tmp_path):
    documents, questions, expected = BAD_CORPORA[name]
    folder = corpus_folder(tmp_path / "말뭉치", documents, questions)
    with pytest.raises(ZragError) as caught:
        read_corpus(CorpusSettings(**native(folder)))
    assert f"{folder}: 1 bad row; nothing was read\n  - {folder}/{expected}" in str(caught.value)


def test_all_bad_rows_are_reported_at_once_on_the_terminal(unharmed, tmp_path):
    documents = lines(GOOD, {"id": "d2", "title": "섬"}, GOOD, '{"id": "d3", "text": "half')
    folder = corpus_folder(tmp_path / "말뭉치", documents, lines(ASKED, ASKED | {"id": "q2", "doc_ids": ["없음"]}))
    code, text = run_command("full", tmp_path, config(corpus=native(folder)))
    assert code == 1
    assert_one_clear_message(
        text,
        "read_corpus",
        f"{folder}: 4 bad rows; nothing was read",
        f"{folder}/corpus.jsonl:2: no text",
        f"{folder}/corpus.jsonl:3: id 'd1' is already used at line 1",
        f"{folder}/corpus.jsonl:4: broken JSON (",
        f"{folder}/questions.jsonl:2: doc_ids names '없음', which is not in the corpus",
    )


def test_an_empty_folder(unharmed, tmp_path, capfd):
    (tmp_path / "비었음").mkdir()
    run_config = config(corpus={"format": "auto", "location": str(tmp_path / "비었음")})
    assert not execute("full", unharmed, run_config=run_config, raise_on_error=False).success
    expected = f"{tmp_path / '비었음'}: the folder is empty -> corpus.location takes a folder with corpus.jsonl, "
    assert_one_clear_message(capfd.readouterr().err, "read_corpus", expected)


# --- the configuration ----------------------------------------------------------------------------


def test_an_unknown_field(unharmed, tmp_path):
    code, text = run_command("full", tmp_path, config(joint={"lerning_rate": 1, "lr_memry": 0.1}))
    assert code == 1
    assert_one_clear_message(
        text,
        "preflight",
        "the run cannot start: 2 problems",
        "joint.lr_memry: unknown field -> did you mean 'lr_memory'?",
        "joint.lerning_rate: unknown field -> ",
    )


@pytest.mark.parametrize("job", ["evaluate", "answers"])
def test_an_unknown_field_in_a_job_that_starts_later(unharmed, capfd, job):
    run_config = config(answers={"tempreature": 0})
    assert not execute(job, unharmed, run_config=run_config, raise_on_error=False).success
    expected = "answers.tempreature: unknown field -> did you mean 'temperature'?"
    assert_one_clear_message(capfd.readouterr().err, "preflight", expected)


# --- the answering model --------------------------------------------------------------------------


@contextlib.contextmanager
def refusing_server():
    """Answers every request with 401, and repeats the key that it was sent, as OpenAI does in part."""

    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            sent.append(self.headers["Authorization"])
            message = f"Incorrect API key provided: {sent[-1].removeprefix('Bearer ')}."
            body = json.dumps({"error": {"message": message, "code": "invalid_api_key"}}).encode()
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    sent = []
    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1", sent
        server.shutdown()


def test_a_wrong_key_is_refused_once_and_shown_nowhere(unharmed, lineage, tmp_path):
    with refusing_server() as (url, sent):
        run_config = config(answers={"reader": "openai", "base_url": url, "concurrency": 1})
        code, text = run_command("answers", tmp_path, run_config, OPENAI_API_KEY=KEY)
    assert code == 1
    assert sent == [f"Bearer {KEY}"]
    assert_one_clear_message(
        text,
        "answer_runs",
        f"{url}: HTTP 401: Incorrect API key provided: [key]. -> the server refuses the API key: "
        "check the variable that answers.api_key_env names",
    )
    assert KEY not in text
    for folder in (tmp_path, lineage.data):
        for path in folder.rglob("*"):
            assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_server_that_cannot_be_reached(unharmed, capfd):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    run_config = config(answers={"reader": "openai", "base_url": url, "max_retries": 0})
    assert not execute("answers", unharmed, run_config=run_config, raise_on_error=False).success
    expected = f"{url}: server cannot be reached: connection failed: "
    assert_one_clear_message(capfd.readouterr().err, "answer_runs", expected, "-> start it or check answers.base_url")


# --- the data folder ------------------------------------------------------------------------------


@pytest.fixture
def held_warehouse(unharmed):
    """Another process holds the warehouse open for writing."""
    file = unharmed / "warehouse.duckdb"
    code = f"import duckdb; c = duckdb.connect({str(file)!r}); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        yield file, holder.pid
        holder.stdin.close()


@pytest.mark.parametrize(("job", "step"), [("full", "read_corpus"), ("answers", "answer_runs")])
def test_a_locked_warehouse(held_warehouse, job, step, monkeypatch, capfd):
    file, pid = held_warehouse
    monkeypatch.setitem(Warehouse.__init__.__kwdefaults__, "timeout_s", 0.3)
    assert not execute(job, file.parent, raise_on_error=False).success
    assert_one_clear_message(
        capfd.readouterr().err,
        step,
        f"{file}: the warehouse is held by another process (PID {pid}), also after waiting 0.3 s -> close it there",
    )


def drop_override():
    """Make file permissions count for root, too (in a child process, before it starts the command)."""
    drop_bounding_capability, may_override_permissions = 24, 1
    ctypes.CDLL(None).prctl(drop_bounding_capability, may_override_permissions, 0, 0, 0)


def test_a_read_only_data_folder(unharmed, tmp_path):
    unharmed.chmod(0o555)
    try:
        code, text = run_command("full", tmp_path, config(), before_exec=drop_override)
    finally:
        unharmed.chmod(0o755)
    assert code == 1
    assert_one_clear_message(
        text, "preflight", f"{unharmed}: the data folder is read-only -> set ZRAG_DATA_DIR to a folder you may write to"
    )


@pytest.mark.parametrize("materialised", ["preflight", "bm25_index"])
def test_a_file_in_place_of_the_data_folder(tmp_path, capfd, materialised):
    (tmp_path / "data").write_text("mine")
    alone = [dg.AssetKey(materialised)]  # as from the UI: the others, preflight among them, do not run
    assert not execute("evaluate", tmp_path / "data", asset_selection=alone, raise_on_error=False).success
    assert_one_clear_message(
        capfd.readouterr().err,
        materialised,
        f"{tmp_path / 'data'}: the data folder cannot be created (File exists) -> set ZRAG_DATA_DIR to a folder",
    )
    assert (tmp_path / "data").read_text() == "mine"
