"""Opening the DuckDB file: one writer at a time, so wait for the others, but not for ever."""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb

from zrag_core.errors import WarehouseError

_FIRST_WAIT_S = 0.02
_LONGEST_WAIT_S = 1.0


class _Turn:
    """The turn of the threads of this process (DuckDB's own handling of them is racy)."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.owner: int | None = None


_TURNS: dict[Path, _Turn] = {}


@contextlib.contextmanager
def connection(path: Path, *, read_only: bool, timeout_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the database for the length of the block, waiting up to `timeout_s` seconds for others.

    DuckDB lets one process write or several read, so a busy file is normal; the wait between
    attempts doubles up to a second, with jitter so that waiting processes do not move in step.
    The threads of one process take turns.

    Raises:
        WarehouseError: still busy after `timeout_s`, or the file cannot be opened at all.
    """
    deadline = time.monotonic() + timeout_s
    turn = _TURNS.setdefault(path.resolve(), _Turn())
    if turn.owner == threading.get_ident():
        raise WarehouseError(
            "the warehouse is already open in an enclosing block", where=str(path), remedy="use that block's connection"
        )
    if not turn.lock.acquire(timeout=timeout_s):
        raise _still_busy(path, "another thread", timeout_s)
    turn.owner = threading.get_ident()
    try:
        with contextlib.closing(_connect(path, read_only, deadline, timeout_s)) as con:
            yield con
    finally:
        turn.owner = None
        turn.lock.release()


def _connect(path: Path, read_only: bool, deadline: float, timeout_s: float) -> duckdb.DuckDBPyConnection:
    wait = _FIRST_WAIT_S
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.Error as error:
            if not _is_busy(error):
                raise _cannot_open(path, error) from error
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                pid = re.search(r"PID (\d+)", str(error))
                holder = f"another process (PID {pid[1]})" if pid else "another connection of this process"
                raise _still_busy(path, holder, timeout_s) from error
        time.sleep(min(wait * random.uniform(0.5, 1.0), remaining))
        wait = min(wait * 2, _LONGEST_WAIT_S)


def _is_busy(error: duckdb.Error) -> bool:
    """Whether another process holds the file, or a connection that this process opened elsewhere."""
    message = str(error)
    return any(
        part in message for part in ("Could not set lock on file", "different configuration", "already attached")
    )


def _still_busy(path: Path, holder: str, timeout_s: float) -> WarehouseError:
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
