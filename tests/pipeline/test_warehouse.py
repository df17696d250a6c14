import datetime
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zrag_core.corpus.types import QUESTION_TYPES, SPLITS, Corpus, Document, EvidenceTarget, Question
from zrag_core.errors import WarehouseError
from zrag_core.evaluation.metrics import METRICS, Metric
from zrag_pipeline.platform.provenance import ZRAG_VERSION, git_sha
from zrag_pipeline.platform.warehouse import Warehouse, replace_rows
from zrag_pipeline.platform.warehouse.schema import migrations

# The contract of the design page: at least these columns.
CONTRACT = {
    "documents": "corpus_version, document_id, title, text, content_hash, n_tokens",
    "questions": "corpus_version, question_id, question, golden_answers, document_ids, evidence, split, "
    "question_type, language",
    "evidence_targets": "corpus_version, target_id, query, document_ids, evidence, method, split",
    "evidence": "run_id, corpus_version, checkpoint_id, system, budget, question_id, evidence, document_ids, scores, "
    "source_document_ids, source_start, source_end, answerable, confidence, evidence_tokens, latency_ms",
    "answers": "run_id, corpus_version, budget, evidence_run_id, system, question_id, reader, model, answer, "
    "prompt_tokens, completion_tokens, cost_usd, latency_ms, cached, prompt_hash, error",
    "scores": "run_id, corpus_version, split, question_type, budget, evidence_run_id, cluster, system, question_id, "
    "reader, recall_at_1, recall_at_5, recall_at_10, recall_all_at_10, reciprocal_rank, rouge_l, answer_coverage, "
    "grounded, em, f1, judged_correct, metric_version",
    "judgements": "run_id, corpus_version, system, budget, question_id, reader, judge_model, verdict, prompt_tokens, "
    "completion_tokens, cost_usd, cached, error",
    "memory_checks": "run_id, checkpoint_id, check_name, parameter, value, threshold, passed",
    "benchmarks": "run_id, corpus_version, benchmark, system, n_documents, metric, value, unit",
    "leaderboard_entries": "run_id, notes, judged_correct, judged_correct_low, judged_correct_high, judge_cost_usd",
    "comparisons": "run_id, corpus_version, split, question_type, budget, reader, measure, system, reference, "
    "difference, low, high, p_value, p_adjusted, mcnemar_p, n_questions, n_documents, verdict",
}
LEADERBOARD = (
    "corpus_version, split, question_type, system, reader, budget, n_questions, recall_at_1, recall_at_5, "
    "recall_at_10, mrr, rouge_l, answer_coverage, evidence_tokens, em, f1, latency_p50_ms, latency_p95_ms, cost_usd, "
    "run_id, created_at"
)
INTERVALS = ("recall_at_1", "recall_at_5", "recall_at_10", "mrr", "rouge_l", "answer_coverage", "em", "f1")


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(tmp_path / "창고.duckdb", timeout_s=5)


def test_schema_has_every_column_of_the_contract(warehouse):
    for table, columns in CONTRACT.items():
        found = set(warehouse.query(f"SELECT * FROM {table}").columns)
        assert set(columns.split(", ")) | {"created_at", "git_sha"} <= found, table
    applied = warehouse.query("SELECT version, name FROM schema_migrations ORDER BY version")
    assert list(applied["version"]) == [step.version for step in migrations()] == list(range(1, len(migrations()) + 1))


def test_leaderboard_columns_stand_in_the_order_of_the_contract(warehouse):
    expected = []
    for name in LEADERBOARD.split(", "):
        expected += [name, f"{name}_low", f"{name}_high"] if name in INTERVALS else [name]
    for view in ("leaderboard", "leaderboard_all"):
        assert list(warehouse.query(f"SELECT * FROM {view}").columns)[: len(expected)] == expected


# --- rows -----------------------------------------------------------------------------------------


def check(name="document_top1", run_id="r1", **more):
    return {"run_id": run_id, "check_name": name, **more}


def test_rerunning_replaces_rows_and_leaves_others_alone(warehouse):
    keys = {"run_id": "r1"}
    warehouse.replace_rows("memory_checks", [check(value=0.1), check("z_shuffle_coverage", value=0.2)], keys)
    warehouse.replace_rows("memory_checks", [check(run_id="r2", value=0.3)], {"run_id": "r2"})
    assert warehouse.replace_rows("memory_checks", [check(value=0.9)], keys) == 1
    rows = warehouse.query("SELECT run_id, value FROM memory_checks ORDER BY run_id")
    assert rows.values.tolist() == [["r1", 0.9], ["r2", 0.3]]
    warehouse.replace_rows("memory_checks", [], keys)
    assert list(warehouse.query("SELECT run_id FROM memory_checks")["run_id"]) == ["r2"]


def test_key_columns_may_be_a_list_and_null_matches_null(warehouse):
    first = pd.DataFrame(
        {"run_id": "r1", "check_name": ["alpha_sweep"] * 3, "parameter": [0.5, 1.0, np.nan], "value": [1.0, 2.0, 3.0]}
    )
    keys = ["run_id", "check_name", "parameter"]
    warehouse.replace_rows("memory_checks", first, keys)
    warehouse.replace_rows("memory_checks", first.assign(value=first["value"] * 10)[1:], keys)
    rows = warehouse.query("SELECT parameter, value FROM memory_checks ORDER BY value")
    assert list(rows["value"]) == [1.0, 20.0, 30.0]


def test_rows_carry_provenance_and_utc_time_and_key_values(warehouse):
    before = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    warehouse.replace_rows("memory_checks", [{"check_name": "x"}], {"run_id": "r9"})
    row = warehouse.query("SELECT * FROM memory_checks").iloc[0]
    assert (row["run_id"], row["git_sha"], row["zrag_version"]) == ("r9", git_sha(), ZRAG_VERSION)
    assert abs((row["created_at"].to_pydatetime() - before).total_seconds()) < 5


def evidence_row(**more):
    return {"corpus_version": "c", "budget": 64, "question_id": "q1", "evidence": "근거", **more}


def test_frames_and_dictionaries_give_the_same_rows(warehouse):
    rows = [
        evidence_row(
            document_ids=["d1", "문서"],
            scores=[0.5, 0.25],
            source_document_ids=["d1"],
            source_start=[0],
            source_end=[2],
            answerable=True,
            confidence=float("nan"),
            evidence_tokens=2,
        ),
        evidence_row(question_id="q2", document_ids=[], scores=(), answerable=False, confidence=np.float64(0.5)),
    ]
    columns = "question_id, evidence, document_ids, scores, source_start, answerable, confidence, evidence_tokens"
    seen = []
    for system, frame in (("a", rows), ("b", pd.DataFrame(rows))):
        warehouse.replace_rows("evidence", frame, {"run_id": "r1", "system": system})
        with warehouse.read() as con:
            query = f"SELECT {columns} FROM evidence WHERE system = ? ORDER BY question_id"
            seen.append(con.execute(query, [system]).fetchall())
    assert seen[0] == seen[1]
    assert seen[0] == [
        ("q1", "근거", ["d1", "문서"], [0.5, 0.25], [0], True, None, 2),
        ("q2", "근거", [], [], None, False, 0.5, None),
    ]


@pytest.mark.parametrize(
    ("rows", "keys", "message"),
    [
        ([check(valeu=1.0)], {"run_id": "r1"}, "unknown columns valeu; known: run_id"),
        ([check()], {"run": "r1"}, "unknown columns run;"),
        ([check(value="high")], {"run_id": "r1"}, "memory_checks.value: a value is not DOUBLE"),
        ([check(value=[1.0])], {"run_id": "r1"}, "memory_checks.value"),
        ([check(run_id="r2")], {"run_id": "r1"}, "rows with another run_id than 'r1'"),
        ([check()], {}, "no key columns"),
        ([check()], [], "no key columns"),
        ([{"check_name": "x"}], ["check_name"], "NOT NULL constraint"),
    ],
)
def test_wrong_rows_are_refused_and_change_nothing(warehouse, rows, keys, message):
    warehouse.replace_rows("memory_checks", [check(value=1.0)], {"run_id": "r1"})
    with pytest.raises(WarehouseError) as caught:
        warehouse.replace_rows("memory_checks", rows, keys)
    assert message in str(caught.value)
    assert list(warehouse.query("SELECT value FROM memory_checks")["value"]) == [1.0]


@pytest.mark.parametrize(("column", "value"), [("budget", 1.5), ("source_start", [0, 1.5])])
def test_fractions_are_not_cut_to_whole_numbers(warehouse, column, value):
    keys = {"run_id": "r1", "system": "bm25"}
    with pytest.raises(WarehouseError, match=rf"evidence\.{column}: .*1\.5 is not a whole number"):
        warehouse.replace_rows("evidence", [{**evidence_row(), column: value}], keys)
    # An integer column with gaps arrives from pandas as floats, and is welcome.
    rows = [evidence_row(evidence_tokens=n, question_id=str(n)) for n in (3, None)]
    warehouse.replace_rows("evidence", pd.DataFrame(rows), keys)
    assert warehouse.query("SELECT sum(evidence_tokens) AS n FROM evidence")["n"][0] == 3


def test_duplicates_of_one_question_are_refused(warehouse):
    keys = {"run_id": "r1", "system": "bm25"}
    warehouse.replace_rows("evidence", [evidence_row()], keys)
    with pytest.raises(WarehouseError, match=r"evidence: .*[Dd]uplicate key"):
        warehouse.replace_rows("evidence", [evidence_row(), evidence_row()], keys)
    assert len(warehouse.query("SELECT * FROM evidence")) == 1


def test_unknown_table_and_wrong_sql_are_named(warehouse):
    with pytest.raises(WarehouseError, match="no table 'evidnce'"):
        warehouse.replace_rows("evidnce", [], {"run_id": "r1"})
    with pytest.raises(WarehouseError, match="evidnce"):
        warehouse.query("SELECT * FROM evidnce")


def test_several_tables_change_together_or_not_at_all(warehouse):
    def fails_half_way():
        with warehouse.write() as con:
            replace_rows(con, "memory_checks", [check()], {"run_id": "r1"})
            replace_rows(con, "benchmarks", [{"wrong": 1}], {"run_id": "r1"})

    with pytest.raises(WarehouseError, match="unknown columns wrong"):
        fails_half_way()
    assert warehouse.query("SELECT * FROM memory_checks").empty


def test_queries_take_parameters_and_cannot_write(warehouse):
    warehouse.replace_rows("memory_checks", [check(), check("y")], {"run_id": "r1"})
    found = warehouse.query("SELECT check_name FROM memory_checks WHERE check_name = ?", ["y"])
    assert found.values.tolist() == [["y"]]
    with pytest.raises(WarehouseError, match="read-only"):
        warehouse.query("DELETE FROM memory_checks")


# --- corpora --------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
ids = st.lists(texts, unique=True, max_size=5)


@st.composite
def corpora(draw):
    documents = tuple(
        Document(id_, draw(texts), draw(texts), draw(texts), draw(st.integers(0, 10**6))) for id_ in draw(ids)
    )
    questions = tuple(
        Question(
            id_,
            draw(texts),
            tuple(draw(st.lists(texts, max_size=3))),
            tuple(d.id for d in documents[:2]),
            draw(st.none() | texts),
            draw(st.sampled_from(("", *SPLITS))),
            draw(st.sampled_from(QUESTION_TYPES)),
            draw(st.sampled_from(("en", "ko"))),
            draw(texts),
            draw(st.dictionaries(texts, st.none() | texts | st.integers() | st.lists(texts, max_size=2), max_size=2)),
        )
        for id_ in draw(ids)
    )
    return Corpus(draw(texts), documents, questions, tuple(draw(st.lists(texts, max_size=2))))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpora())
def test_corpus_round_trip_is_exact_and_replaces(warehouse, corpus):
    warehouse.save_corpus("v1", corpus)
    assert warehouse.load_corpus("v1") == corpus


def test_documents_are_described(warehouse):
    document = Document("d1", "제목", "서울은 수도이다.")
    warehouse.save_corpus("v1", Corpus("c", (document,), ()))
    row = warehouse.query("SELECT * FROM documents").iloc[0]
    assert row["content_hash"] == document.content_hash
    assert row["n_tokens"] == 6  # 22 UTF-8 bytes


def test_targets_round_trip_in_order(warehouse):
    targets = tuple(
        EvidenceTarget(f"t{n}", "무엇?", ("d1", "d2")[: n % 3], "근거", "self_study", "train") for n in (3, 1, 2, 10)
    )
    warehouse.save_targets("v1", targets)
    warehouse.save_targets("v2", targets[:1])
    assert warehouse.load_targets("v1") == targets
    warehouse.save_targets("v1", targets[2:])
    assert warehouse.load_targets("v1") == targets[2:]


def test_missing_corpus_says_what_to_do(warehouse):
    with pytest.raises(WarehouseError, match="no corpus version 'v7' -> materialise"):
        warehouse.load_corpus("v7")
    with pytest.raises(WarehouseError, match="no evidence targets for corpus version 'v7' -> materialise"):
        warehouse.load_targets("v7")


# --- leaderboard ----------------------------------------------------------------------------------


def entry(run_id, day, system="bm25", reader="none", budget=64, **more):
    return {
        "run_id": run_id,
        "corpus_version": "c1",
        "split": "test",
        "question_type": "all",
        "system": system,
        "reader": reader,
        "budget": budget,
        "n_questions": 10,
        "created_at": datetime.datetime(2026, 1, day),
        **more,
    }


def put(warehouse, *entries):
    warehouse.replace_rows("leaderboard_entries", entries, ["run_id", "system", "reader", "budget"])


def board(warehouse, view="leaderboard"):
    rows = warehouse.query(f"SELECT run_id, system, reader, budget FROM {view}")
    return sorted(map(tuple, rows.values.tolist()))


def test_newest_run_of_each_combination_is_shown(warehouse):
    put(warehouse, entry("new", 2), entry("old", 1), entry("old", 1, budget=128), entry("old", 1, "dense"))
    assert board(warehouse) == [("new", "bm25", "none", 64), ("old", "bm25", "none", 128), ("old", "dense", "none", 64)]
    assert len(board(warehouse, "leaderboard_all")) == 4


def test_unanswered_rows_hide_behind_answers_of_the_same_run(warehouse):
    put(warehouse, entry("r1", 1), entry("r1", 1, budget=128), entry("r1", 1, reader="offline"))
    assert board(warehouse) == [("r1", "bm25", "none", 128), ("r1", "bm25", "offline", 64)]
    # A later evaluation without answers is news, and stands beside the older answers.
    put(warehouse, entry("r2", 2))
    assert board(warehouse) == [
        ("r1", "bm25", "none", 128),
        ("r1", "bm25", "offline", 64),
        ("r2", "bm25", "none", 64),
    ]
    assert len(board(warehouse, "leaderboard_all")) == 4


def test_a_run_whose_answers_were_overtaken_still_hides_its_unanswered_row(warehouse):
    put(warehouse, entry("r1", 2), entry("r1", 1, reader="offline"), entry("r2", 3, reader="offline"))
    assert board(warehouse) == [("r2", "bm25", "offline", 64)]


def test_an_older_unanswered_run_does_not_come_back(warehouse):
    put(warehouse, entry("r1", 1), entry("r2", 2), entry("r2", 2, reader="gpt-4o"))
    assert board(warehouse) == [("r2", "bm25", "gpt-4o", 64)]


# --- the file -------------------------------------------------------------------------------------


def test_newer_schema_is_refused(warehouse):
    with warehouse.write() as con:
        con.execute("INSERT INTO schema_migrations (version, name) VALUES (9999, 'future')")
    for use in (lambda: warehouse.query("SELECT 1"), lambda: warehouse.replace_rows("scores", [], {"run_id": "r"})):
        with pytest.raises(WarehouseError, match=r"schema version 9999.*-> update zRAG"):
            use()


def test_older_schema_is_brought_up_to_date_also_by_readers(tmp_path):
    path = tmp_path / "w.duckdb"
    first, *_ = migrations()
    with duckdb.connect(path) as con:
        con.execute("CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, name VARCHAR, created_at TIMESTAMP)")
        con.execute("INSERT INTO schema_migrations VALUES (1, 'tables', now()::TIMESTAMP)")
        con.execute(first.sql)
        con.execute("INSERT INTO memory_checks (run_id, check_name) VALUES ('r1', 'kept')")
    assert Warehouse(path).query("SELECT * FROM leaderboard").empty
    assert list(Warehouse(path).query("SELECT check_name FROM memory_checks")["check_name"]) == ["kept"]


def test_benchmarks_written_before_they_named_their_corpus_are_kept(tmp_path):
    path = tmp_path / "w.duckdb"
    with duckdb.connect(path) as con:
        con.execute("CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, name VARCHAR, created_at TIMESTAMP)")
        for step in migrations()[:2]:
            con.execute(step.sql)
            con.execute("INSERT INTO schema_migrations VALUES (?, ?, now()::TIMESTAMP)", [step.version, step.name])
        con.execute("INSERT INTO benchmarks (run_id, benchmark, metric, value) VALUES ('old', 'routing', 'mrr', 0.5)")
    row = {"benchmark": "routing", "metric": "mrr", "value": 0.7, "corpus_version": "c1"}
    Warehouse(path).replace_rows("benchmarks", [row], {"run_id": "new"})
    found = Warehouse(path).query("SELECT run_id, corpus_version, value FROM benchmarks ORDER BY run_id")
    assert found.astype(object).where(found.notna(), None).values.tolist() == [["new", "c1", 0.7], ["old", None, 0.5]]


# The views of schema version 7, as migrations made them before they were made from the columns.
FORMER_VIEW = """
SELECT corpus_version, split, question_type, system, reader, budget, n_questions,
    recall_at_1, recall_at_1_low, recall_at_1_high, recall_at_5, recall_at_5_low, recall_at_5_high,
    recall_at_10, recall_at_10_low, recall_at_10_high, mrr, mrr_low, mrr_high, rouge_l, rouge_l_low, rouge_l_high,
    answer_coverage, answer_coverage_low, answer_coverage_high, evidence_tokens, em, em_low, em_high,
    f1, f1_low, f1_high, latency_p50_ms, latency_p95_ms, cost_usd, run_id, created_at,
    recall_all_at_10, grounded, notes, metric_version, git_sha, zrag_version,
    judged_correct, judged_correct_low, judged_correct_high, judge_cost_usd
FROM leaderboard_entries
"""


def former_warehouse(path):
    """A warehouse as version 7 of the schema left it, with one evaluation."""
    with duckdb.connect(path) as con:
        con.execute("CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, name VARCHAR, created_at TIMESTAMP)")
        for step in migrations()[:7]:
            con.execute(step.sql)
            con.execute("INSERT INTO schema_migrations VALUES (?, ?, now()::TIMESTAMP)", [step.version, step.name])
        con.execute(f"CREATE VIEW leaderboard_all AS {FORMER_VIEW}")
        con.execute("CREATE VIEW leaderboard AS SELECT * FROM leaderboard_all WHERE reader <> 'none'")
    return Warehouse(path)


def schema_of(warehouse):
    """Table or view -> its columns with their types, in order."""
    columns = warehouse.query("SELECT table_name, column_name, data_type FROM duckdb_columns() ORDER BY column_index")
    return {name: own.values.tolist() for name, own in columns.groupby("table_name")}


def test_a_former_warehouse_and_a_new_one_are_alike(tmp_path, warehouse):
    former = former_warehouse(tmp_path / "former.duckdb")
    assert schema_of(former) == schema_of(warehouse)
    assert len(schema_of(former)["leaderboard"]) == len(schema_of(former)["leaderboard_entries"])


@pytest.fixture
def new_metric(monkeypatch):
    """Register a metric for the length of a test."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    return METRICS.add(Metric("brevity", "brevity", "evidence", lambda outcome: 1.0, column="short"))


def test_a_new_metric_gets_its_columns_and_stands_in_the_views(tmp_path, new_metric):
    former = former_warehouse(tmp_path / "former.duckdb")
    before = schema_of(former)
    assert before["scores"][-1] == ["scores", "brevity", "DOUBLE"]
    added = [column for _, column, _ in before["leaderboard"][-3:]]
    assert added == ["short", "short_low", "short_high"]
    put(former, entry("r1", 1) | {"short": 0.5}, entry("r1", 1, reader="offline") | {"short": 0.5})
    assert former.query("SELECT reader, short FROM leaderboard").values.tolist() == [["offline", 0.5]]
    assert schema_of(former) == before == schema_of(Warehouse(tmp_path / "new.duckdb"))


def test_columns_of_a_metric_that_is_gone_stay(tmp_path, warehouse, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(METRICS, "_entries", dict(METRICS._entries))
        METRICS.add(Metric("brevity", "brevity", "evidence", lambda outcome: 1.0))
        put(warehouse, entry("r1", 1) | {"brevity": 0.5})
    assert warehouse.query("SELECT brevity FROM leaderboard")["brevity"].tolist() == [0.5]


def test_foreign_and_broken_files_are_not_touched(tmp_path):
    foreign = tmp_path / "foreign.duckdb"
    with duckdb.connect(foreign) as con:
        con.execute("CREATE TABLE documents (mine INTEGER)")
    with pytest.raises(WarehouseError, match=r"foreign\.duckdb: the schema cannot be set up.*-> if this file is not"):
        Warehouse(foreign).query("SELECT 1")
    with duckdb.connect(foreign) as con:
        assert con.execute("SHOW TABLES").fetchall() == [("documents",)]
    broken = tmp_path / "broken.duckdb"
    broken.write_text("no database " * 1000)
    with pytest.raises(WarehouseError, match="not a valid DuckDB database") as caught:
        Warehouse(broken).query("SELECT 1")
    assert "\n" not in str(caught.value)


def test_impossible_path_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WarehouseError, match="cannot be opened"):
        Warehouse(tmp_path / "file" / "w.duckdb").query("SELECT 1")


# --- processes ------------------------------------------------------------------------------------

HOLD = """
import sys, duckdb
con = duckdb.connect(sys.argv[1])
con.execute("BEGIN")
con.execute("DELETE FROM memory_checks")
con.execute("INSERT INTO memory_checks (run_id, check_name) SELECT 'half', 'x' FROM range(200000)")
if sys.argv[2] == "checkpointed":
    con.execute("COMMIT"); con.execute("BEGIN"); con.execute("DELETE FROM memory_checks")
print("holding", flush=True)
sys.stdin.read()
"""


def hold(path, how="open"):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "holding\n"
    return process


@pytest.mark.parametrize("how", ["read", "write"])
def test_held_file_gives_one_line_with_the_holder(warehouse, how):
    warehouse.replace_rows("memory_checks", [check()], {"run_id": "r1"})
    holder = hold(warehouse.path)
    try:
        started = time.monotonic()
        impatient = Warehouse(warehouse.path, timeout_s=0.6)

        def use():
            with impatient.read() if how == "read" else impatient.write():
                pass

        with pytest.raises(WarehouseError) as caught:
            use()
        assert 0.6 <= time.monotonic() - started < 3
        message = str(caught.value)
        assert f"PID {holder.pid}" in message
        assert str(warehouse.path) in message
        assert "-> close it" in message
        assert "\n" not in message
    finally:
        holder.kill()
        holder.communicate()


def test_waits_for_the_holder_to_finish(warehouse):
    warehouse.replace_rows("memory_checks", [check()], {"run_id": "r1"})
    holder = hold(warehouse.path)
    threading.Timer(0.5, holder.stdin.close).start()
    warehouse.replace_rows("memory_checks", [check("y", "r2")], {"run_id": "r2"})
    assert len(warehouse.query("SELECT * FROM memory_checks")) == 2
    holder.wait()
    holder.stdout.close()


def test_kill_in_mid_transaction_leaves_the_old_rows(warehouse):
    rows = [check(str(n), value=n) for n in range(100)]
    warehouse.replace_rows("memory_checks", rows, {"run_id": "r1"})
    holder = hold(warehouse.path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert warehouse.query("SELECT count(*) AS n, sum(value) AS total FROM memory_checks").values.tolist() == [
        [100, 4950]
    ]


def test_kill_after_a_commit_keeps_what_was_committed(warehouse):
    warehouse.replace_rows("memory_checks", [check()], {"run_id": "r1"})
    holder = hold(warehouse.path, "checkpointed")
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert warehouse.query("SELECT count(*) AS n FROM memory_checks WHERE run_id = 'half'")["n"][0] == 200000


WRITE = """
import sys
from zrag_pipeline.platform.warehouse import Warehouse
warehouse = Warehouse(sys.argv[1])
for n in range(15):
    warehouse.replace_rows("memory_checks", [{"check_name": str(n)}], {"run_id": f"{sys.argv[2]}-{n}"})
    warehouse.query("SELECT count(*) FROM memory_checks")
"""


def test_two_processes_write_a_fresh_warehouse_at_once(tmp_path):
    path = tmp_path / "w.duckdb"
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(path), name]) for name in ("a", "b")]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert Warehouse(path).query("SELECT count(DISTINCT run_id) AS n FROM memory_checks")["n"][0] == 30


def test_threads_reading_and_writing_take_turns(warehouse):
    def work(name):
        for n in range(8):
            warehouse.replace_rows("memory_checks", [{"check_name": "x"}], {"run_id": f"{name}-{n}"})
            warehouse.query("SELECT * FROM memory_checks")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, "abc"))
    assert len(warehouse.query("SELECT * FROM memory_checks")) == 24


def test_a_block_inside_a_block_is_refused_at_once(warehouse):
    def nested():
        with warehouse.write():
            warehouse.query("SELECT 1")

    started = time.monotonic()
    with pytest.raises(WarehouseError, match="already open in an enclosing block -> use that block's connection"):
        nested()
    assert time.monotonic() - started < 2
    assert len(warehouse.query("SELECT 1")) == 1


def test_a_connection_opened_elsewhere_in_the_process_is_waited_for(warehouse):
    warehouse.query("SELECT 1")
    notebook = duckdb.connect(warehouse.path)
    threading.Timer(0.3, notebook.close).start()
    assert len(warehouse.query("SELECT 1")) == 1
