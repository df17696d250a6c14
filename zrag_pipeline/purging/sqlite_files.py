"""Erasing in SQLite files: the rows stay with the text cut out of them, and no former page keeps it.

Used for stores whose rows other programs rely on (MLflow, Dagster): removing the run or the event that quotes a
sentence would remove far more than the document.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from zrag_core.errors import ZragError
from zrag_pipeline.purging.patterns import MARK, Patterns
from zrag_pipeline.purging.search import in_bytes, in_value, unpacked

_WAIT_S = 30.0


def redact_database(path: Path, patterns: Patterns) -> int:
    """Cut the document out of every value of a database; returns how many values were changed.

    Raises:
        ZragError: the database is in use, or cannot be changed.
    """
    with open_to_erase(path) as con:
        changed = 0
        con.execute("BEGIN IMMEDIATE")
        for (table,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            changed += _redact_table(con, table, patterns)
        con.execute("COMMIT")
        if changed or _in_pages(path, patterns):
            compact(con, path)
    return changed


@contextmanager
def open_to_erase(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database so that what is deleted is overwritten.

    Raises:
        ZragError: it is in use for too long, or cannot be changed.
    """
    try:
        with closing(sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)) as con:
            con.execute("PRAGMA secure_delete = ON")
            yield con
    except sqlite3.Error as error:
        raise ZragError(
            f"cannot be erased in ({error})",
            where=str(path),
            remedy="stop what uses it (`make ui`, a run) and repeat the command; it goes on from here",
        ) from error


def compact(con: sqlite3.Connection, path: Path) -> None:
    """Write the file anew without free pages, and empty its write-ahead log.

    Raises:
        sqlite3.OperationalError: another process reads from the log.
    """
    con.execute("VACUUM")
    (busy, *_) = con.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("another process reads its write-ahead log")


def _redact_table(con: sqlite3.Connection, table: str, patterns: Patterns) -> int:
    columns = [row[1] for row in con.execute(f'PRAGMA table_info("{table}")')]
    names = ", ".join(f'"{column}"' for column in columns)
    found: list[tuple[int, str, Any]] = []
    for rowid, *values in con.execute(f'SELECT rowid, {names} FROM "{table}"'):
        found += [(rowid, c, v) for c, v in zip(columns, values, strict=True) if in_value(v, patterns)]
    for rowid, column, value in found:
        con.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (_without(value, patterns), rowid))
    return len(found)


def _without(value: str | bytes, patterns: Patterns) -> str | bytes:
    if isinstance(value, str):
        return without(value, patterns)
    redacted = without(unpacked(value), patterns).encode()
    return redacted if unpacked(value).encode() == value else zlib.compress(redacted)


def without(text: str, patterns: Patterns) -> str:
    """Text with the document cut out; where that is not possible, nothing of the text is kept."""
    redacted = patterns.redact(text)
    return MARK if patterns.find(redacted) else redacted


def _in_pages(path: Path, patterns: Patterns) -> bool:
    beside = (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal"))
    return any(file.exists() and in_bytes(file, patterns) for file in beside)


def delete_rows(path: Path, table: str, unwanted: Callable[[dict[str, Any]], bool], patterns: Patterns) -> int:
    """Delete the rows that `unwanted` chooses (by column), and every trace of them in the file; returns how many."""
    with open_to_erase(path) as con:
        con.execute("BEGIN IMMEDIATE")
        rows = con.execute(f'SELECT rowid AS rowid_, * FROM "{table}"')
        names = [column[0] for column in rows.description]
        chosen = [row[0] for row in rows if unwanted(dict(zip(names, row, strict=True)))]
        con.executemany(f'DELETE FROM "{table}" WHERE rowid = ?', [(rowid,) for rowid in chosen])
        con.execute("COMMIT")
        if chosen or _in_pages(path, patterns):
            compact(con, path)
    return len(chosen)
