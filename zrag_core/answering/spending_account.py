"""What one run may have spent, over all its parts and processes: rows of one SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from zrag_core.errors import AnsweringError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spending (
    run_id TEXT NOT NULL,
    part TEXT NOT NULL,
    spent_usd REAL NOT NULL DEFAULT 0,
    perhaps_usd REAL NOT NULL DEFAULT 0,
    opened_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT
"""
_BUSY_TIMEOUT_S = 30.0


class SpendingAccount:
    """The row of one part of a run, beside those of its other parts, which share its limit.

    A part that is killed leaves what it had reserved behind: it may be billed. The file is made with the first request
    that costs something. May be used from several threads.

    Args:
        path: the SQLite file.
        run_id: what the limit holds for.
        part: what spends, for people who read the table; one that is tried again has a row for each time.
    """

    def __init__(self, path: Path, run_id: str, part: str):
        self.path = path
        self.run_id = run_id
        self.part = part
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._row: int | None = None

    def reserve(self, spent_usd: float, perhaps_usd: float, limit_usd: float) -> bool:
        """Set this part's row if that leaves the whole run within the limit; else leave it as it was.

        Args:
            perhaps_usd: what requests in flight and unanswered ones may cost.

        Raises:
            AnsweringError: the file cannot be used.
        """
        with self._lock:
            try:
                connection = self._opened()
                connection.execute("BEGIN IMMEDIATE")
                (others,) = connection.execute(
                    "SELECT coalesce(sum(spent_usd + perhaps_usd), 0) FROM spending WHERE run_id = ? AND rowid <> ?",
                    (self.run_id, self._row),
                ).fetchone()
                within = bool(others + spent_usd + perhaps_usd <= limit_usd)
                if within:
                    self._set(connection, spent_usd, perhaps_usd)
                connection.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                raise self._unusable(error) from error
        return within

    def record(self, spent_usd: float, perhaps_usd: float) -> None:
        """Set this part's row, whatever the limit is.

        Raises:
            AnsweringError: the file cannot be used.
        """
        with self._lock:
            try:
                self._set(self._opened(), spent_usd, perhaps_usd)
            except (sqlite3.Error, OSError) as error:
                raise self._unusable(error) from error

    def _set(self, connection: sqlite3.Connection, spent_usd: float, perhaps_usd: float) -> None:
        connection.execute(
            "UPDATE spending SET spent_usd = ?, perhaps_usd = ? WHERE rowid = ?", (spent_usd, perhaps_usd, self._row)
        )

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Guarded by the lock: the event loop may live in another thread than the caller.
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode = WAL")
            # NORMAL: it has to outlive a killed process, which ends a run; after a power cut there is a new one.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_SCHEMA)
            added = connection.execute("INSERT INTO spending (run_id, part) VALUES (?, ?)", (self.run_id, self.part))
            self._connection, self._row = connection, added.lastrowid
        return self._connection

    def _unusable(self, error: Exception) -> AnsweringError:
        return AnsweringError(
            f"what was spent cannot be kept: {error}",
            where=str(self.path),
            remedy="check free space and write permission, or move a damaged file away",
        )
