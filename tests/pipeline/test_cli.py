import datetime
import os
import shlex
import subprocess
import sys

import pytest

from zrag_core.evaluation.comparison_report import comparisons_markdown
from zrag_core.evaluation.leaderboard_report import leaderboard_markdown
from zrag_core.systems import SYSTEMS as REGISTERED
from zrag_pipeline.cli import main
from zrag_pipeline.defs.evaluation.comparisons import newest_comparisons
from zrag_pipeline.platform.tracking import Tracking
from zrag_pipeline.platform.warehouse import Warehouse

SYSTEMS = tuple(REGISTERED)


@pytest.fixture
def zrag(monkeypatch, capsys):
    """Call the command on a data folder; return exit code, standard output and standard error."""

    def call(data, *arguments):
        monkeypatch.setenv("ZRAG_DATA_DIR", str(data))
        code = main(arguments)
        return (code, *capsys.readouterr())

    return call


def test_before_any_run_one_line_says_what_to_do(zrag, tmp_path):
    code, out, err = zrag(tmp_path / "data", "leaderboard")
    warehouse = tmp_path / "data" / "warehouse.duckdb"
    assert (code, out) == (1, "")
    assert err == f"zrag: {warehouse}: nothing has been evaluated yet -> run `make demo`, or the job `full`\n"


def test_the_table_holds_every_system(zrag, lineage):
    code, out, err = zrag(lineage.data, "leaderboard")
    assert (code, err) == (0, "")
    *tables, compared = out.strip().split("\n\n")
    first_table = tables[0].splitlines()
    rows = [line.split()[0] for line in first_table if line.split()[0] in SYSTEMS]
    assert tuple(rows) == SYSTEMS
    assert "offline (extractive stand-in)" in out
    assert max(map(len, out.splitlines())) <= 110
    assert compared.startswith("Against bm25_sentence: test, 12 questions")
    named = [line.split()[0] for line in compared.splitlines()[3:-1]]
    assert named == [s for s in SYSTEMS if s not in ("bm25_sentence", "closed_book", "gold_evidence")]
    assert "F1 at 256, offline" in compared
    assert "EM and F1 at 256 evidence tokens" in out, "the budget that the run is judged by, not the largest"


def test_markdown_is_the_report_of_the_view(zrag, lineage):
    frame = Warehouse(lineage.data / "warehouse.duckdb").query(
        "SELECT * FROM leaderboard ORDER BY split, question_type, system, reader, budget"
    )
    code, out, _ = zrag(lineage.data, "leaderboard", "--markdown")
    assert code == 0
    compared = newest_comparisons(Warehouse(lineage.data / "warehouse.duckdb"), frame["corpus_version"][0])
    expected = [leaderboard_markdown(frame, systems=SYSTEMS), comparisons_markdown(compared, systems=SYSTEMS)]
    assert out.split() == "\n".join(expected).split()
    assert "### Against `zrag`: test, 12 questions" in out
    assert "95% interval" in out


def test_a_line_joins_no_figures_of_two_evidence_runs(zrag, tmp_path):
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    shared = {"corpus_version": "c1", "split": "test", "system": "zrag", "budget": 64}
    for day, (run, reader, evidence, n) in enumerate(
        [("r1", "none", "r1", 4), ("r1", "offline", "r1", 4), ("r2", "none", "r2", 1), ("a1", "openai", "r1", 3)], 1
    ):
        at = datetime.datetime(2026, 1, day)
        line = {**shared, "run_id": run, "reader": reader, "n_questions": n, "created_at": at}
        warehouse.replace_rows("leaderboard_entries", [{**line, "question_type": "all"}], ["run_id", "reader"])
        used = {**shared, "question_type": "single", "run_id": run, "reader": reader, "question_id": "q"}
        warehouse.replace_rows("scores", [{**used, "evidence_run_id": evidence}], ["run_id", "reader"])
        if run == evidence:
            made = {**shared, "run_id": run, "question_id": "q", "created_at": at, "evidence": ""}
            made.pop("split")
            warehouse.replace_rows("evidence", [made], ["run_id"])
    code, out, _ = zrag(tmp_path, "leaderboard")
    assert code == 0
    assert "test, 1 question " in out
    assert "left out, of an older evidence run: test, answers by offline: zrag (4 questions)" in out
    assert "left out, of an older evidence run: test, answers by openai: zrag (3 questions)" in out


def test_a_corpus_version_chooses_and_an_unknown_one_names_the_known(zrag, lineage):
    (version,) = Warehouse(lineage.data / "warehouse.duckdb").query("SELECT corpus_version FROM corpora").to_numpy()[0]
    assert zrag(lineage.data, "leaderboard", "--corpus-version", version) == zrag(lineage.data, "leaderboard")
    code, out, err = zrag(lineage.data, "leaderboard", "--corpus-version", "c0ffee")
    assert (code, out) == (1, "")
    assert err == f"zrag: corpus version 'c0ffee' has not been evaluated -> known: {version}\n"


def test_the_newest_corpus_is_shown_by_default(zrag, own_lineage):
    with Warehouse(own_lineage.data / "warehouse.duckdb").write() as con:
        con.execute(
            "INSERT INTO leaderboard_entries BY NAME SELECT * REPLACE ('c0ffee' AS corpus_version, "
            "created_at + INTERVAL 1 MINUTE AS created_at) FROM leaderboard_entries WHERE system = 'bm25'"
        )
    _, out, _ = zrag(own_lineage.data, "leaderboard")
    assert "corpus c0ffee" in out
    assert "zrag_joint" not in out


def test_where_names_the_places(zrag, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    code, out, _ = zrag(tmp_path / "자료", "where")
    assert code == 0
    for place in (tmp_path / "자료" / "warehouse.duckdb", tmp_path / "자료" / "checkpoints", tmp_path / "home"):
        assert str(place) in out


def test_where_says_how_to_serve_in_words_that_a_shell_takes(zrag, tmp_path):
    lines = zrag(tmp_path / "자료 1", "where")[1].splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.startswith("serve:"))
    words = shlex.split(lines[first].removeprefix("serve:").removesuffix("\\")) + shlex.split(lines[first + 1])
    assert words[:4] == [f"MLFLOW_TRACKING_URI={Tracking(tmp_path / '자료 1').uri}", "mlflow", "models", "serve"]


def test_where_names_the_newest_report(zrag, lineage, tmp_path):
    assert "report:       none yet" in zrag(tmp_path / "data", "where")[1]
    (report,) = (lineage.data / "reports").iterdir()
    assert f"report:       {report}\n" in zrag(lineage.data, "where")[1]


def test_a_data_folder_that_cannot_be_used_is_one_line(zrag, tmp_path):
    (tmp_path / "data").write_text("a file")
    code, _, err = zrag(tmp_path / "data", "where")
    assert code == 1
    assert err.count("\n") == 1
    assert "cannot be created" in err
    assert "set ZRAG_DATA_DIR" in err


@pytest.mark.parametrize("arguments", [["leaderboard"], ["where"]])
def test_a_reader_that_has_seen_enough_is_no_error(lineage, arguments):
    closed, pipe = os.pipe()
    os.close(closed)
    environment = {**os.environ, "ZRAG_DATA_DIR": str(lineage.data)}
    environment.pop("PYTHONUNBUFFERED", None)
    command = [sys.executable, "-m", "zrag_pipeline.cli", *arguments]
    with os.fdopen(pipe, "wb") as out:
        result = subprocess.run(command, env=environment, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
