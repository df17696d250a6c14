"""Opening the DuckDB file: one writer at a time, so wait for the others, but not for ever."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import duckdb

from zrag_core.errors import WarehouseError

_FIRST_WAIT_S = 0.02
_LONGEST_WAIT_S = 1.0


def connect(path: Path, *, read_only: bool, timeout_s: float) -> duckdb.DuckDBPyConnection:
    """Open the database, waiting up to `timeout_s` seconds while others hold it.

    DuckDB lets one process write or several read, so a busy file is normal; the wait between
    attempts doubles up to a second, with jitter so that waiting processes do not move in step.

    Raises:
        WarehouseError: still busy after `timeout_s`, or the file cannot be opened at all.
    """
    deadline = time.monotonic() + timeout_s
    wait = _FIRST_WAIT_S
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.Error as error:
            if not _is_busy(error):
                raise _cannot_open(path, error) from error
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise _still_busy(path, error, timeout_s) from error
        time.sleep(min(wait * random.uniform(0.5, 1.0), remaining))
        wait = min(wait * 2, _LONGEST_WAIT_S)


def _is_busy(error: duckdb.Error) -> bool:
    """Whether another process, or another thread of this one, holds the file."""
    message = str(error)
    return "Could not set lock on file" in message or "different configuration" in message


def _still_busy(path: Path, error: duckdb.Error, timeout_s: float) -> WarehouseError:
    pid = re.search(r"PID (\d+)", str(error))
    holder = f"another process (PID {pid[1]})" if pid else "another process or thread"
    return WarehouseError(
        f"the warehouse is held by {holder}, also after waiting {timeout_s:g} s",
        where=str(path),
        remedy="close it there (a notebook, the DuckDB shell, another run) and start again",
    )


def _cannot_open(path: Path, error: duckdb.Error) -> WarehouseError:
    reason = str(error).splitlines()[0]
    return WarehouseError(
        f"the warehouse cannot be opened ({reason})",
        where=str(path),
        remedy="check the path and its permissions, or move the file away to start with an empty warehouse",
    )
