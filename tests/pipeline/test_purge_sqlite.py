"""Erasing in SQLite files: the pages and the write-ahead log forget what the rows forget."""

import sqlite3
from contextlib import closing

import pytest

from zrag_core.corpus.types import Document
from zrag_core.errors import ZragError
from zrag_pipeline.purging import redaction
from zrag_pipeline.purging.patterns import make_patterns

TEXT = "Orrin Vale was born in Kell in the year 1931."
PATTERNS = make_patterns([Document("d", "", TEXT)], [], [], ["d"])


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "기록.db"
    with closing(sqlite3.connect(path)) as con:
        con.execute("PRAGMA journal_mode = WAL")
        con.execute("CREATE TABLE t (a TEXT, b)")
        con.executemany("INSERT INTO t VALUES (?, ?)", [(f"{n}: {TEXT}", n) for n in range(50)] + [("other", 1)])
        con.execute("DELETE FROM t WHERE b BETWEEN 20 AND 40")
        con.commit()
    return path


def raw(path):
    return b"".join(file.read_bytes() for file in path.parent.iterdir() if file.name.startswith(path.name))


def test_no_page_and_no_log_keeps_the_text_while_others_have_the_file_open(database):
    with closing(sqlite3.connect(database)) as other:
        other.execute("SELECT count(*) FROM t").fetchone()
        assert TEXT.encode() in raw(database)
        assert redaction.redact_database(database, PATTERNS) == 29
        assert TEXT.encode() not in raw(database)
        assert other.execute("SELECT a FROM t ORDER BY b LIMIT 2").fetchall() == [("0: [purged].",), ("1: [purged].",)]


def test_a_reader_in_the_way_is_said(database, monkeypatch):
    monkeypatch.setattr(redaction, "_WAIT_S", 0.1)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM t").fetchone()
        with pytest.raises(ZragError, match=r"make ui"):
            redaction.redact_database(database, PATTERNS)
    assert redaction.redact_database(database, PATTERNS) == 0, "the rows were done"
    assert TEXT.encode() not in raw(database)
