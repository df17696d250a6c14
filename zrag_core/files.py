"""Files and folders that appear complete or not at all.

Everything is built beside its destination, synced to disk and renamed into place, so a reader (or
the next run after a crash) sees the old content or the new, never half of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# A folder is only taken for a leftover when it is this old, so that one whose maker has not
# locked it yet is never swept away.
_LEFTOVER_AGE_S = 60.0


def write_bytes_atomic(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write `data` to `path`, creating parent folders; returns the path.

    Raises:
        OSError: the file cannot be written; what stood at `path` before is untouched.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(target)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(target.parent)
    return target


def write_text_atomic(path: str | os.PathLike[str], text: str) -> Path:
    """Write `text` as UTF-8 to `path`; see `write_bytes_atomic`."""
    return write_bytes_atomic(path, text.encode("utf-8"))


def write_json_atomic(path: str | os.PathLike[str], value: Any) -> Path:
    """Write `value` as readable JSON (UTF-8, Korean as itself) to `path`; see `write_bytes_atomic`.

    Raises:
        TypeError, ValueError: `value` is not JSON; nothing is written.
    """
    return write_text_atomic(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Build a folder out of sight and put it at `path` in one step when the block ends well.

    Yields an empty temporary folder beside `path`. At the end its files and folders are synced and
    it is renamed to `path`; a folder already there is swapped out in the same system call where
    the system can do that (Linux), and removed. When the block raises, the temporary folder is
    removed and `path` stays as it was. Leftovers of killed processes are swept on the next call.

    Raises:
        NotADirectoryError: `path` is a file.
        OSError: the folder cannot be written or renamed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file, a folder is to be written there")
    _sweep_leftovers(target)
    temporary = _temporary_name(target)
    temporary.mkdir()
    # The lock says "in use" to other processes' sweeps, and vanishes with this process.
    lock = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield temporary
            _sync_tree(temporary)
            _swap_into_place(temporary, target)
        finally:
            # After a swap this is the replaced folder, after an error the unfinished one.
            shutil.rmtree(temporary, ignore_errors=True)
    finally:
        os.close(lock)
    _sync(target.parent)


def _temporary_name(target: Path) -> Path:
    # Not `tempfile`: what it creates is private to its owner, and would stay so after the rename.
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")


def _swap_into_place(temporary: Path, target: Path) -> None:
    """Rename `temporary` to `target`; a folder at `target` ends up at `temporary`."""
    if not target.exists():
        os.rename(temporary, target)
    elif not _exchange(temporary, target):
        # Without an exchange call there is an instant without `target`; the old folder is put
        # back if the second rename fails.
        aside = temporary.with_name(f"{temporary.name}.old")
        os.rename(target, aside)
        try:
            os.rename(temporary, target)
        except OSError:
            os.rename(aside, target)
            raise
        os.rename(aside, temporary)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one system call; False where the system has no such call."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(code, os.strerror(code), str(second))


def _sweep_leftovers(target: Path) -> None:
    """Remove temporary folders for `target` that no living process holds."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        try:
            if not leftover.is_dir() or time.time() - leftover.stat().st_mtime < _LEFTOVER_AGE_S:
                continue
            lock = os.open(leftover, os.O_RDONLY)
        except FileNotFoundError:  # another process swept it first
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(leftover, ignore_errors=True)
        except BlockingIOError:  # a living process is building it
            continue
        finally:
            os.close(lock)


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
