"""The warehouse's schema: numbered SQL files, applied once each; metrics' columns; views made from the columns."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import duckdb

from zrag_core.errors import WarehouseError
from zrag_pipeline.platform.warehouse.views import add_metric_columns, create_views, is_complete

_CREATE_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY,
    name VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
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
    return is_complete(con)


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
        add_metric_columns(con)
        create_views(con)
        con.commit()
    except duckdb.Error as error:
        con.rollback()
        raise WarehouseError(
            f"the schema cannot be set up ({str(error).splitlines()[0]})",
            where=str(path),
            remedy="if this file is not a zRAG warehouse, move it away or set ZRAG_DATA_DIR",
        ) from error
