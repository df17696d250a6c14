"""The warehouse: rows of the document, about it and quoting it, in every run; then the file is written anew.

DuckDB neither shrinks its file nor overwrites what is deleted, so the rows that stay are copied into a fresh one.
"""

from __future__ import annotations

import secrets
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb

from zrag_core.errors import WarehouseError
from zrag_pipeline.platform.warehouse import Warehouse
from zrag_pipeline.purging.erasure import Erasure
from zrag_pipeline.purging.search import matching_values
from zrag_pipeline.purging.target import Target, mark_held

_ABOUT_QUESTIONS = ("evidence", "answers", "judgements", "scores", "memorag_traces", "questions")
_QUOTING = ("documents", "questions", "evidence_targets", "evidence", "answers", "judgements", "memorag_traces")
_HELD = "SELECT 1 FROM temp.held h WHERE h.corpus_version = t.corpus_version AND"
_WAIT_S = 30.0


def prompt_hashes(warehouse: Warehouse, target: Target) -> set[str]:
    """Hashes of the prompts that were about the document or quoted it: the key of the answer cache."""
    found: set[str] = set()
    with warehouse.read() as con:
        _mark_questions(con, target)
        quoting = _quoting(con, "evidence", target)
        for table in ("answers", "judgements"):
            rows = con.execute(
                f"""SELECT t.prompt_hash FROM {table} t JOIN about USING (corpus_version, question_id)
                UNION SELECT t.prompt_hash FROM {table} t JOIN evidence e USING (system, budget, question_id)
                WHERE e.corpus_version = t.corpus_version AND list_contains(?, e.rowid)""",
                [quoting],
            )
            found |= {row[0] for row in rows.fetchall() if row[0]}
    return found


def purge_warehouse(path: Path, target: Target) -> Erasure:
    """Write the file anew without the document, in one step: until then the former one stands as it was.

    Raises:
        WarehouseError: the file is held by another process, or there is no room for two copies of it.
    """
    remove_leftovers(path)
    work, fresh = (path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp") for _ in range(2))
    with closing(duckdb.connect()) as con:
        try:
            # The former file is open for reading while its successor takes its place: no writer can come between.
            _attach(con, path)
            _copy(con, "former", "work", work)
            con.execute("USE work")
            counts = _delete_all(con, target)
            con.execute("USE memory")
            _copy(con, "work", "fresh", fresh)
            con.execute("DETACH fresh")
            shutil.copymode(path, fresh)
            fresh.replace(path)
        except duckdb.Error as error:
            raise WarehouseError(
                f"the warehouse cannot be written anew ({str(error).splitlines()[0]})",
                where=str(path),
                remedy="close what uses it, check the free space, and repeat the command; it goes on from here",
            ) from error
        finally:
            con.close()
            remove_leftovers(path)
    return Erasure("warehouse", {f"rows of {table}": n for table, n in counts.items()})


def remove_leftovers(path: Path) -> None:
    """Remove what a killed command left beside the warehouse."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp*"):
        leftover.unlink(missing_ok=True)


def _copy(con: duckdb.DuckDBPyConnection, source: str, name: str, path: Path) -> None:
    """Copy tables, views and indexes into a new database file."""
    con.execute(f"ATTACH '{_quoted(path)}' AS {name}")
    con.execute(f"COPY FROM DATABASE {source} TO {name}")


def _delete_all(con: duckdb.DuckDBPyConnection, target: Target) -> dict[str, int]:
    """Delete the rows; returns how many of each table."""
    _mark_questions(con, target)
    counts: dict[str, int] = {}
    for table in _ABOUT_QUESTIONS:
        where = "(corpus_version, question_id) IN (SELECT corpus_version, question_id FROM about)"
        counts[table] = _delete(con, table, where)
    counts["evidence_targets"] = _delete(con, "evidence_targets", f"EXISTS ({_HELD} list_has_any(document_ids, h.ids))")
    counts["documents"] = _delete(con, "documents", f"EXISTS ({_HELD} list_contains(h.ids, document_id))")
    for table in _QUOTING:
        rows = _quoting(con, table, target)
        counts[table] = counts.get(table, 0) + _delete(con, table, "list_contains(?, rowid)", rows)
    return counts


def _attach(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Attach the file as `former`, read-only, waiting a while for others who hold it."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            con.execute(f"ATTACH '{_quoted(path)}' AS former (READ_ONLY)")
            return
        except duckdb.Error:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _quoting(con: duckdb.DuckDBPyConnection, table: str, target: Target) -> list[int]:
    """Row ids of the rows of a table that quote the document, or say that they do."""
    found = {rowid for rowid, _, _ in matching_values(con, table, target.patterns)}
    if table == "evidence":  # which may end after the first words of one of its sentences
        where = f"EXISTS ({_HELD} list_has_any(source_document_ids, h.ids))"
        rows = con.execute(f"SELECT rowid FROM evidence t WHERE {where}")
        found |= {row[0] for row in rows.fetchall()}
    return sorted(found)


def _mark_questions(con: duckdb.DuckDBPyConnection, target: Target) -> None:
    """Questions about the documents, as the temporary table `about`; the documents themselves as `held`."""
    mark_held(con, target.held)
    con.execute(
        """CREATE OR REPLACE TEMP TABLE about AS SELECT corpus_version, question_id FROM questions
        JOIN held USING (corpus_version)
        WHERE list_has_any(document_ids, held.ids) OR list_contains(held.ids, metadata ->> 'about_document')"""
    )


def _delete(con: duckdb.DuckDBPyConnection, table: str, where: str, *params: Any) -> int:
    deleted = con.execute(f"DELETE FROM {table} AS t WHERE {where}", list(params)).fetchall()
    return deleted[0][0]


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
