"""Digests of files, remembered as long as the files stay as they are."""

from __future__ import annotations

import hashlib
import os
import time
from functools import lru_cache
from pathlib import Path

_REMEMBERED = 1_000_000  # files; each takes a few hundred bytes
# A file may be written again within one tick of the file system's clock, and then looks as it did before.
_SETTLED_S = 2.0


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file's bytes; one whose size, times and inode are as they were is not read again.

    The change time counts too, which no program can set: a file that was copied with its times is read again.

    Raises:
        OSError: it cannot be read.
    """
    # Before the bytes are read: of a file that changes meanwhile, the next look sees another time.
    found = path.stat()
    if time.time() - max(found.st_mtime, found.st_ctime) < _SETTLED_S:
        return _read(path)
    return _remembered(os.fspath(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@lru_cache(maxsize=_REMEMBERED)
def _remembered(path: str, _size: int, _modified: int, _changed: int, _inode: int) -> bytes:
    return _read(Path(path))


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
