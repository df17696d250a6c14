"""The views `leaderboard` and `leaderboard_all`, and the columns of registered metrics that they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from zrag_core.evaluation.metrics import METRICS

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


def is_complete(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether every registered metric has its columns, and the views show all of them."""
    columns = _columns(con)
    return not _missing(columns) and columns.get("leaderboard") == _view_columns(columns)


def add_metric_columns(con: duckdb.DuckDBPyConnection) -> None:
    """Give the tables the columns of registered metrics that they lack."""
    for table, column in _missing(_columns(con)):
        con.execute(f'ALTER TABLE {table} ADD COLUMN "{column}" DOUBLE')


def create_views(con: duckdb.DuckDBPyConnection) -> None:
    """Make the views from the columns that the table has."""
    shown = ", ".join(f'"{column}"' for column in _view_columns(_columns(con)))
    con.execute(_LEADERBOARD_ALL.format(columns=shown))
    con.execute(_LEADERBOARD)


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
