"""Answers that were paid for, kept in one SQLite file so that no prompt is paid for twice."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from zrag_core.errors import AnsweringError

_SCHEMA_VERSION = 2  # 2: finish_reason
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    prompt_hash TEXT PRIMARY KEY,
    answer TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    model TEXT NOT NULL,
    cost_usd REAL NOT NULL,
    created_at TEXT NOT NULL,
    finish_reason TEXT NOT NULL DEFAULT ''
) STRICT
"""
_ADD_FINISH_REASON = "ALTER TABLE answers ADD COLUMN finish_reason TEXT NOT NULL DEFAULT ''"
_BUSY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer as it was received and paid for.

    Attributes:
        answer: with the reasoning of a model that writes some.
        finish_reason: why the model stopped, as the server says it ("stop", "length"); may be empty.
    """

    answer: str
    prompt_tokens: int
    completion_tokens: int
    model: str
    cost_usd: float
    finish_reason: str = ""


class AnswerCache:
    """Answers by prompt hash; each is on disk before `put` returns.

    Several processes may share the file. May be used from several threads.

    Args:
        path: the SQLite file; it and its folder are made when missing.

    Raises:
        AnsweringError: the file cannot be opened, is no answer cache, or was written by a newer version.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Guarded by the lock: the event loop may live in another thread than the caller.
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > _SCHEMA_VERSION:
            raise AnsweringError(
                f"answer cache has schema {version}, this code knows {_SCHEMA_VERSION}",
                where=str(self.path),
                remedy="update zRAG, or move the file away to start an empty cache",
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        # FULL: an answer cost money, so it must outlive a power cut, not only this process.
        self._connection.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            self._connection.execute(_SCHEMA)
            columns = self._connection.execute("SELECT name FROM pragma_table_info('answers')").fetchall()
            if ("finish_reason",) not in columns:
                self._connection.execute(_ADD_FINISH_REASON)
        self._connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    def get(self, prompt_hash: str) -> CachedAnswer | None:
        """Return the answer to the prompt with this hash, if there is one."""
        with self._explained(), self._lock:
            row = self._connection.execute(
                "SELECT answer, prompt_tokens, completion_tokens, model, cost_usd, finish_reason FROM answers "
                "WHERE prompt_hash = ?",
                (prompt_hash,),
            ).fetchone()
        return CachedAnswer(*row) if row else None

    def put(self, prompt_hash: str, answer: CachedAnswer) -> None:
        """Store an answer and commit it; the first one stored for a prompt stays."""
        self.put_all([(prompt_hash, answer)])

    def put_all(self, answers: Iterable[tuple[str, CachedAnswer]]) -> None:
        """Store answers by prompt hash and commit them together, all or none; see `put`."""
        created_at = datetime.now(UTC).isoformat()
        rows = [
            (key, a.answer, a.prompt_tokens, a.completion_tokens, a.model, a.cost_usd, created_at, a.finish_reason)
            for key, a in answers
        ]
        with self._explained(), self._lock, self._transaction():
            self._connection.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (prompt_hash) DO NOTHING", rows
            )

    def forget(self, prompt_hash: str) -> None:
        """Drop the answer to a prompt, so that it is asked and paid for again; where there is none, do nothing."""
        with self._explained(), self._lock:
            self._connection.execute("DELETE FROM answers WHERE prompt_hash = ?", (prompt_hash,))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def __len__(self) -> int:
        with self._explained(), self._lock:
            return int(self._connection.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise AnsweringError(
                f"answer cache cannot be used: {error}",
                where=str(self.path),
                remedy="check free space and write permission, or move a damaged file away",
            ) from error


class GroupCommit:
    """Commits answers from many coroutines off the event loop; what arrives during one commit goes into the next.

    Waiting for the disk takes longer than all else that the client does for an answer, and so it is shared.
    For one event loop.
    """

    def __init__(self, cache: AnswerCache):
        self._cache = cache
        self._waiting: list[tuple[str, CachedAnswer]] = []
        self._lock = asyncio.Lock()

    async def put(self, prompt_hash: str, answer: CachedAnswer) -> None:
        """Return when the answer is committed.

        Raises:
            AnsweringError: this commit failed; of the answers in it, none is stored and this is the only word of it.
        """
        mine = (prompt_hash, answer)
        self._waiting.append(mine)
        async with self._lock:
            if not any(item is mine for item in self._waiting):
                return
            together, self._waiting = self._waiting, []
            await asyncio.to_thread(self._cache.put_all, together)
