"""The warehouse itself: short connections to one DuckDB file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from zrag_core.corpus.types import Corpus, EvidenceTarget
from zrag_core.errors import WarehouseError
from zrag_pipeline.platform.warehouse import corpora
from zrag_pipeline.platform.warehouse.connection import connection
from zrag_pipeline.platform.warehouse.rows import replace_rows
from zrag_pipeline.platform.warehouse.schema import is_up_to_date, migrate

if TYPE_CHECKING:
    import pandas

    from zrag_pipeline.platform.warehouse.rows import Rows


class Warehouse:
    """The DuckDB file that holds corpora, evidence, answers, scores and the leaderboard.

    Nothing is opened until it is used, and nothing stays open afterwards: while one process
    writes, DuckDB keeps every other one out, readers too. Compute first, then open and write.

    Args:
        path: the file; it and its schema are created on first use.
        timeout_s: how long to wait for others who hold the file.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout_s: float = 30.0):
        self.path = Path(path)
        self.timeout_s = timeout_s

    @contextlib.contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open for writing: the block is one transaction, undone as a whole when it raises.

        Raises:
            WarehouseError: the file is held by others for too long, or cannot be used.
        """
        with self._open(read_only=False) as con:
            migrate(con, self.path)
            con.begin()
            try:
                yield con
            except BaseException:
                con.rollback()
                raise
            con.commit()

    @contextlib.contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open read-only; several processes may do so at once.

        Raises:
            WarehouseError: the file is held by a writer for too long, or cannot be used.
        """
        if not self.path.exists():
            self._create()
        with self._open(read_only=True) as con:
            current = is_up_to_date(con, self.path)
            if current:
                yield con
        if not current:
            self._create()
            with self._open(read_only=True) as con:
                yield con

    def query(self, sql: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> pandas.DataFrame:
        """Run one SELECT, read-only, and return its rows (list columns hold arrays).

        Raises:
            WarehouseError: the statement is wrong, or the file cannot be read.
        """
        with self.read() as con:
            try:
                return con.execute(sql, params).df()
            except duckdb.Error as error:
                raise WarehouseError(str(error).splitlines()[0], where=str(self.path)) from error

    def replace_rows(self, table: str, rows: Rows, keys: Mapping[str, Any] | Sequence[str]) -> int:
        """Replace rows in a transaction of their own; see `zrag_pipeline.platform.warehouse.replace_rows`."""
        with self.write() as con:
            return replace_rows(con, table, rows, keys)

    def save_corpus(self, corpus_version: str, corpus: Corpus) -> None:
        """Write documents and questions, replacing those of the same version."""
        with self.write() as con:
            corpora.save_corpus(con, corpus_version, corpus)

    def load_corpus(self, corpus_version: str) -> Corpus:
        """Read a corpus, equal to the one saved; UnknownCorpusError if there is none."""
        with self.read() as con:
            return corpora.load_corpus(con, corpus_version)

    def save_targets(self, corpus_version: str, targets: Iterable[EvidenceTarget]) -> None:
        """Write evidence targets, replacing those of the same corpus version."""
        with self.write() as con:
            corpora.save_targets(con, corpus_version, targets)

    def load_targets(self, corpus_version: str) -> tuple[EvidenceTarget, ...]:
        """Read evidence targets in the order they were saved; UnknownCorpusError if there are none."""
        with self.read() as con:
            return corpora.load_targets(con, corpus_version)

    def _open(self, *, read_only: bool) -> contextlib.AbstractContextManager[duckdb.DuckDBPyConnection]:
        return connection(self.path, read_only=read_only, timeout_s=self.timeout_s)

    def _create(self) -> None:
        with self._open(read_only=False) as con:
            migrate(con, self.path)
