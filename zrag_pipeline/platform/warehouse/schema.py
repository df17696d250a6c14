"""The warehouse's schema: numbered SQL files, applied once each; metrics' columns; views made from the columns."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import duckdb

from zrag_core.errors import WarehouseError
from zrag_core.evaluation.metrics import METRICS

_CREATE_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY,
    name VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
)
"""


_LEADERBOARD_ALL = "CREATE OR REPLACE VIEW leaderboard_all AS SELECT {columns} FROM leaderboard_entries"
# The newest run of each combination. An evaluation writes reader 'none' first and the answers later; once a run has
# answers, its own 'none' row says nothing more and is hidden.
_LEADERBOARD = """
CREATE OR REPLACE VIEW leaderboard AS
WITH newest AS (
    SELECT *
    FROM leaderboard_all
    QUALIFY row_number() OVER (
        PARTITION BY corpus_version, split, question_type, system, reader, budget
        ORDER BY created_at DESC, run_id DESC
    ) = 1
)
SELECT *
FROM newest AS entry
WHERE NOT (
    entry.reader = 'none'
    AND EXISTS (
        SELECT 1
        FROM leaderboard_all AS answered
        WHERE answered.run_id = entry.run_id
            AND answered.corpus_version = entry.corpus_version
            AND answered.split = entry.split
            AND answered.question_type = entry.question_type
            AND answered.system = entry.system
            AND answered.budget = entry.budget
            AND answered.reader <> 'none'
    )
)
"""


class Migration(NamedTuple):
    """One numbered step of the schema."""

    version: int
    name: str
    sql: str


@functools.cache
def migrations() -> tuple[Migration, ...]:
    """Return all steps, from `migrations/NNNN_name.sql`, in order."""
    folder = resources.files("zrag_pipeline.platform.warehouse") / "migrations"
    steps = []
    for file in sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name):
        number, _, name = file.name.removesuffix(".sql").partition("_")
        steps.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return tuple(steps)


def current_version(con: duckdb.DuckDBPyConnection) -> int:
    """Return the newest step applied to this database; 0 for an empty one."""
    exists = con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'schema_migrations'").fetchone()
    if not exists or not exists[0]:
        return 0
    newest = con.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchone()
    return newest[0] if newest else 0


def is_up_to_date(con: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Whether every step is applied, every registered metric has its columns, and the views show all of them.

    Raises:
        WarehouseError: the database was written by a newer zRAG.
    """
    found, known = current_version(con), migrations()[-1].version
    if found > known:
        raise WarehouseError(
            f"the warehouse has schema version {found}, this zRAG knows up to {known}",
            where=str(path),
            remedy="update zRAG, or point ZRAG_DATA_DIR to another folder",
        )
    if found < known:
        return False
    columns = _columns(con)
    return not _missing(columns) and columns.get("leaderboard") == _view_columns(columns)


def migrate(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Apply the missing steps, add the columns of new metrics and make the views, all in one transaction.

    Raises:
        WarehouseError: a step fails (nothing is changed), or the database is newer than this code.
    """
    if is_up_to_date(con, path):
        return
    con.begin()
    try:
        con.execute(_CREATE_MIGRATIONS_TABLE)
        done = current_version(con)
        for step in migrations():
            if step.version > done:
                con.execute(step.sql)
                con.execute("INSERT INTO schema_migrations (version, name) VALUES (?, ?)", [step.version, step.name])
        for table, column in _missing(_columns(con)):
            con.execute(f'ALTER TABLE {table} ADD COLUMN "{column}" DOUBLE')
        shown = ", ".join(f'"{column}"' for column in _view_columns(_columns(con)))
        con.execute(_LEADERBOARD_ALL.format(columns=shown))
        con.execute(_LEADERBOARD)
        con.commit()
    except duckdb.Error as error:
        con.rollback()
        raise WarehouseError(
            f"the schema cannot be set up ({str(error).splitlines()[0]})",
            where=str(path),
            remedy="if this file is not a zRAG warehouse, move it away or set ZRAG_DATA_DIR",
        ) from error


def _columns(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """The columns of the tables that hold metrics and of the view over them, in order."""
    found = con.execute(
        "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns() "
        "WHERE table_name IN ('scores', 'leaderboard_entries', 'leaderboard') GROUP BY table_name"
    )
    return dict(found.fetchall())


def _missing(columns: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Tables and the columns that they lack for a registered metric."""
    wanted = [("scores", metric.name) for metric in METRICS.values()]
    for metric in METRICS.values():
        sides = ("", "_low", "_high") if metric.interval else ("",)
        wanted += [("leaderboard_entries", f"{metric.column}{side}") for side in sides]
    return [(table, column) for table, column in wanted if column not in columns[table]]


def _view_columns(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """The columns of the views: those of the table, run and time behind the figures that every version had."""
    moved = ["run_id", "created_at"]
    shown = [column for column in columns["leaderboard_entries"] if column not in moved]
    place = shown.index("cost_usd") + 1
    return [*shown[:place], *moved, *shown[place:]]
