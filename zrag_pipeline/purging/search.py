"""Searches every file below some folders, and every row of every database in them, for what was erased.

It looks everywhere, whichever store a file belongs to, so that it also finds what no store was asked to erase.
"""

from __future__ import annotations

import gzip
import io
import os
import sqlite3
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zrag_pipeline.purging.patterns import Patterns

_BLOCK = 16 << 20
_OVERLAP = 64 << 10  # longer than any sentence that is looked for, however it is escaped
_SQLITE = b"SQLite format 3\x00"
_GZIP, _ZIP, _PARQUET, _DUCKDB = b"\x1f\x8b", b"PK\x03\x04", b"PAR1", b"DUCK"
_ROWS = 500
_TEXT_TYPES = ("VARCHAR", "JSON", "STRUCT", "MAP", "UNION", "BLOB")


@dataclass
class Findings:
    """What was searched and what was found.

    Attributes:
        found: one line for each place where something is left, or that could not be read.
    """

    files: int = 0
    tables: int = 0
    found: list[str] = field(default_factory=list)

    def add(self, where: str, what: str | None) -> None:
        """Note what was found in a place, if anything."""
        if what is not None:
            self.found.append(f"{where}: {what}")


def search(roots: Iterable[Path], patterns: Patterns, *, leave_out: Iterable[Path] = ()) -> Findings:
    """Search every file below some folders; a file that cannot be read counts as found."""
    findings = Findings()
    left_out = {path.resolve() for path in leave_out}
    for path in files_below(roots):
        if path.resolve() not in left_out:
            search_file(path, patterns, findings)
    return findings


def files_below(roots: Iterable[Path]) -> list[Path]:
    """Every file below some folders, once, in a fixed order."""
    found: dict[Path, Path] = {}
    for root in roots:
        for folder, _, names in os.walk(root):
            found.update({(path := Path(folder, name)).resolve(): path for name in names})
    return sorted(path for path in found.values() if path.is_file() or path.is_symlink())


def search_file(path: Path, patterns: Patterns, findings: Findings) -> None:
    """Search one file by what its first bytes say it is."""
    findings.files += 1
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head == _SQLITE:
            findings.add(str(path), in_bytes(path, patterns))
            _search_sqlite(path, patterns, findings)
        elif head[8:12] == _DUCKDB:
            findings.add(str(path), in_bytes(path, patterns))
            _search_duckdb(path, patterns, findings)
        elif head.startswith(_PARQUET):
            _search_parquet(path, patterns, findings)
        elif head.startswith(_GZIP):
            with gzip.open(path) as unpacked:
                findings.add(str(path), _in_stream(unpacked, patterns))
        elif head.startswith(_ZIP):
            _search_zip(path, patterns, findings)
        else:
            with path.open("rb") as file:
                findings.add(str(path), _in_stream(file, patterns))
    except FileNotFoundError:  # SQLite's own files go when its last connection is closed
        findings.files -= 1
    except Exception as error:  # whatever it is: a file that was not searched proves nothing
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        findings.add(str(path), f"cannot be searched ({reason})")


def in_bytes(path: Path, patterns: Patterns) -> str | None:
    """Search the raw bytes of a database: also pages that hold no row any more."""
    with path.open("rb") as file:
        return next((what for block in _blocks(file) if (what := patterns.find_bytes(block))), None)


def _in_stream(file: Any, patterns: Patterns) -> str | None:
    text: bool | None = None
    for block in _blocks(file):
        if text is None:
            text = b"\0" not in block[:8192]
        # Text may hold a few bytes that are none, and what looks like none may begin with text.
        what = patterns.find_bytes(block) or (patterns.find(block.decode("utf-8", "ignore")) if text else None)
        if what:
            return what
    return None


def _blocks(file: Any) -> Iterator[bytes]:
    """A file in blocks, each with the end of the one before it."""
    before = b""
    while block := file.read(_BLOCK):
        yield before + block
        before = (before + block)[-_OVERLAP:]


def _search_zip(path: Path, patterns: Patterns, findings: Findings) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                findings.add(f"{path} ({name})", _in_stream(io.BytesIO(member.read()), patterns))


def _search_sqlite(path: Path, patterns: Patterns, findings: Findings) -> None:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as con:
        _search_tables(con, sqlite_tables(con), path, patterns, findings)


def _search_duckdb(path: Path, patterns: Patterns, findings: Findings) -> None:
    from zrag_pipeline.platform.warehouse.connection import connection

    with connection(path, read_only=True, timeout_s=30) as con:
        tables = con.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
        _search_tables(con, [name for (name,) in tables], path, patterns, findings)


def _search_parquet(path: Path, patterns: Patterns, findings: Findings) -> None:
    import duckdb

    with closing(duckdb.connect()) as con:
        con.read_parquet(str(path)).create_view("parquet")
        _search_tables(con, ["parquet"], path, patterns, findings)


def _search_tables(con: Any, tables: Iterable[str], path: Path, patterns: Patterns, findings: Findings) -> None:
    for table in tables:
        findings.tables += 1
        for _, column, value in matching_values(con, table, patterns, key="NULL"):
            findings.add(f"{path}, table {table}, column {column}", in_value(value, patterns))


def sqlite_tables(con: sqlite3.Connection) -> list[str]:
    """Names of the tables of an SQLite database."""
    return [row[0] for row in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def matching_values(con: Any, table: str, patterns: Patterns, *, key: str = "rowid") -> list[tuple[Any, str, Any]]:
    """(key, column, value) of every value of a table that holds something of the document.

    Args:
        con: a connection to SQLite or DuckDB.
        key: SQL of what names a row.
    """
    described = con.execute(f'SELECT * FROM "{table}" LIMIT 0').description
    # Columns of SQLite have no type: any may hold text.
    columns = [name for name, kind, *_ in described if kind is None or any(t in str(kind) for t in _TEXT_TYPES)]
    if not columns:
        return []
    names = ", ".join(f'"{column}"' for column in columns)
    rows = con.execute(f'SELECT {key}, {names} FROM "{table}"')
    found: list[tuple[Any, str, Any]] = []
    while batch := rows.fetchmany(_ROWS):
        # Most rows hold nothing: they are searched together.
        together = "\x1f".join(text for row in batch for value in row[1:] for text in _texts(value))
        if patterns.find(together) is not None:
            pairs = ((row[0], column, value) for row in batch for column, value in zip(columns, row[1:], strict=True))
            found += [pair for pair in pairs if in_value(pair[2], patterns)]
    return found


def in_value(value: Any, patterns: Patterns) -> str | None:
    """Search one value of a row: a text, a list of such, or bytes (compressed or not)."""
    return next((what for text in _texts(value) if (what := patterns.find(text))), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield unpacked(value)
    elif isinstance(value, dict):
        for part in (*value.keys(), *value.values()):
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def unpacked(value: bytes) -> str:
    """Bytes as text; Dagster keeps some of its records compressed."""
    with suppress(zlib.error):
        value = zlib.decompress(value)
    return value.decode("utf-8", "ignore")
