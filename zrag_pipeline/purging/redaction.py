"""Cutting a document out of files and SQLite databases that are kept, and of every former page of a database.

Used for stores whose rows other programs rely on (MLflow, Dagster): removing the run or the event that quotes a
sentence would remove far more than the document.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from zrag_core.errors import ZragError
from zrag_core.files import write_text_atomic
from zrag_pipeline.purging.erasure import Erasure
from zrag_pipeline.purging.patterns import MARK, Patterns
from zrag_pipeline.purging.search import (
    Findings,
    files_below,
    in_bytes,
    matching_values,
    search_file,
    sqlite_tables,
    unpacked,
)

_WAIT_S = 30.0


def redact(store: str, patterns: Patterns, *, databases: Iterable[Path] = (), folders: Iterable[Path] = ()) -> Erasure:
    """Cut the document out of databases, and of the text files below folders; other files that hold it are deleted.

    Raises:
        ZragError: a database is in use, or cannot be changed.
    """
    values = sum(redact_database(path, patterns) for path in databases)
    redacted = deleted = 0
    for path in files_below(folders):
        findings = Findings()
        search_file(path, patterns, findings)
        if not findings.found:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            path.unlink()
            deleted += 1
        else:
            write_text_atomic(path, _without(text, patterns))
            redacted += 1
    counts = {"values with text cut out": values, "files with text cut out": redacted, "files": deleted}
    return Erasure(store, counts)


def redact_database(path: Path, patterns: Patterns) -> int:
    """Cut the document out of every value of an SQLite database; returns how many values were changed.

    Raises:
        ZragError: the database is in use, or cannot be changed.
    """
    changed = 0
    with _erasing(path, patterns) as con:
        for table in sqlite_tables(con):
            for rowid, column, value in matching_values(con, table, patterns):
                if isinstance(value, str):
                    redacted: str | bytes = _without(value, patterns)
                else:
                    redacted = _without(unpacked(value), patterns).encode()
                    if unpacked(value).encode() != value:
                        redacted = zlib.compress(redacted)
                con.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (redacted, rowid))
                changed += 1
    return changed


def delete_rows(path: Path, table: str, unwanted: Callable[[dict[str, Any]], bool], patterns: Patterns) -> int:
    """Delete the rows that `unwanted` chooses (by column), and every trace of them; returns how many.

    Raises:
        ZragError: the database is in use, or cannot be changed.
    """
    with _erasing(path, patterns) as con:
        rows = con.execute(f'SELECT rowid AS rowid_, * FROM "{table}"')
        names = [column[0] for column in rows.description]
        chosen = [(row[0],) for row in rows if unwanted(dict(zip(names, row, strict=True)))]
        con.executemany(f'DELETE FROM "{table}" WHERE rowid = ?', chosen)
    return len(chosen)


@contextmanager
def _erasing(path: Path, patterns: Patterns) -> Iterator[sqlite3.Connection]:
    """One transaction in a database, after which no page and no log holds what was erased."""
    try:
        with closing(sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)) as con:
            con.execute("PRAGMA secure_delete = ON")
            con.execute("BEGIN IMMEDIATE")
            yield con
            con.execute("COMMIT")
            if con.total_changes or _in_pages(path, patterns):
                con.execute("VACUUM")
                (busy, *_) = con.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if busy:
                    raise sqlite3.OperationalError("another process reads its write-ahead log")
    except sqlite3.Error as error:
        raise ZragError(
            f"cannot be erased in ({error})",
            where=str(path),
            remedy="stop what uses it (`make ui`, a run) and repeat the command; it goes on from here",
        ) from error


def _in_pages(path: Path, patterns: Patterns) -> bool:
    beside = (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal"))
    return any(file.exists() and in_bytes(file, patterns) for file in beside)


def _without(text: str, patterns: Patterns) -> str:
    """Text with the document cut out; where that is not possible, nothing of the text is kept."""
    redacted = patterns.redact(text)
    return MARK if patterns.find(redacted) else redacted
