"""Replacing rows of a table in bulk, checked against the table's columns first."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import duckdb

from zrag_core.errors import WarehouseError
from zrag_pipeline.platform.provenance import ZRAG_VERSION, git_sha

if TYPE_CHECKING:
    import pandas
    import pyarrow

    Rows: TypeAlias = pandas.DataFrame | Sequence[Mapping[str, Any]]


def replace_rows(
    con: duckdb.DuckDBPyConnection,
    table: str,
    rows: Rows,
    keys: Mapping[str, Any] | Sequence[str],
) -> int:
    """Delete the rows that `keys` names, insert `rows`; part of the connection's transaction.

    Args:
        con: a connection from `Warehouse.write`.
        table: a table of the warehouse.
        rows: a DataFrame or dictionaries; missing columns become NULL or the column's default,
            `git_sha` and `zrag_version` are filled in, NaN becomes NULL.
        keys: a mapping deletes the rows with these values, and gives them to new rows that lack
            the column; a list of column names deletes the rows whose values in these columns occur
            in `rows`.

    Returns:
        The number of rows inserted.

    Raises:
        WarehouseError: unknown table or column, a value of the wrong type, rows that contradict
            `keys`, or a duplicate of the table's primary key.
    """
    types = _column_types(con, table)
    columns, count = _columns(rows)
    if isinstance(keys, Mapping):
        for name, value in keys.items():
            given = columns.setdefault(name, [value] * count)
            if any(item != value for item in given):
                raise WarehouseError(f"there are rows with another {name} than {value!r}, given as key", where=table)
    _check_names(table, [*columns, *keys], types)
    if not keys:
        raise WarehouseError("no key columns given; this would delete every row", where=table)
    for name, value in (("git_sha", git_sha()), ("zrag_version", ZRAG_VERSION)):
        if name in types:
            columns.setdefault(name, [value] * count)
    batch = _arrow_table(table, columns, types)
    con.register("incoming_rows", batch)
    try:
        if isinstance(keys, Mapping):
            condition = " AND ".join(f"{_quoted(name)} IS NOT DISTINCT FROM ?" for name in keys)
            con.execute(f"DELETE FROM {_quoted(table)} WHERE {condition}", list(keys.values()))
        elif count:
            same = " AND ".join(f"old.{_quoted(name)} IS NOT DISTINCT FROM new.{_quoted(name)}" for name in keys)
            con.execute(
                f"DELETE FROM {_quoted(table)} AS old WHERE EXISTS (SELECT 1 FROM incoming_rows AS new WHERE {same})"
            )
        if count:
            names = ", ".join(_quoted(name) for name in columns)
            con.execute(f"INSERT INTO {_quoted(table)} ({names}) SELECT {names} FROM incoming_rows")
    except duckdb.ConstraintException as error:
        raise WarehouseError(str(error).splitlines()[0], where=table) from error
    # Not after an error: the transaction is then beyond use, and its caller ends it.
    con.unregister("incoming_rows")
    return count


def _column_types(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    found = con.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [table]
    ).fetchall()
    if not found:
        raise WarehouseError(f"the warehouse has no table '{table}'")
    return dict(found)


def _columns(rows: Rows) -> tuple[dict[str, list[Any]], int]:
    """Return the rows as columns; a key that only some dictionaries have is None in the others."""
    if hasattr(rows, "columns"):
        return {str(name): rows[name].tolist() for name in rows.columns}, len(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}, len(rows)


def _check_names(table: str, names: Sequence[str], types: Mapping[str, str]) -> None:
    unknown = sorted({name for name in names if name not in types})
    if unknown:
        raise WarehouseError(f"unknown columns {', '.join(unknown)}; known: {', '.join(types)}", where=table)


def _arrow_table(table: str, columns: Mapping[str, list[Any]], types: Mapping[str, str]) -> pyarrow.Table:
    import pyarrow

    arrow_types = {
        "VARCHAR": pyarrow.string(),
        "JSON": pyarrow.string(),
        "INTEGER": pyarrow.int32(),
        "DOUBLE": pyarrow.float64(),
        "BOOLEAN": pyarrow.bool_(),
        "TIMESTAMP": pyarrow.timestamp("us"),
    }
    arrays = {}
    for name, values in columns.items():
        element, is_list = types[name].removesuffix("[]"), types[name].endswith("[]")
        kind = pyarrow.list_(arrow_types[element]) if is_list else arrow_types[element]
        if element == "JSON":
            values = [json.dumps(value, ensure_ascii=False) for value in values]
        try:
            if element == "INTEGER":
                values = [_whole(value) for value in values]
            # from_pandas: NaN, NaT and pandas.NA are missing values.
            arrays[name] = pyarrow.array(values, type=kind, from_pandas=True)
        except (ValueError, TypeError) as error:  # Arrow's errors are these, too
            raise WarehouseError(f"a value is not {types[name]} ({error})", where=f"{table}.{name}") from error
    return pyarrow.table(arrays)


def _whole(value: Any) -> Any:
    """Refuse fractions, which Arrow would cut off in silence; pandas makes floats of gappy integers."""
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        raise ValueError(f"{value} is not a whole number")
    return [_whole(item) for item in value] if isinstance(value, list | tuple) else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
