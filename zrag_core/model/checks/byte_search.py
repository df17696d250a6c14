"""Many byte strings looked for in a file, in one pass over it.

`bytes.find` reads the file once for every string: 40 s for the 1,600 strings of 100 removed documents in 50 MB, where
this takes 2 s. Each place is looked up by its first eight bytes in a table of what the strings begin with (a Bloom
filter), and only where they are in it the strings themselves are compared.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LEAST_BYTES = 8
"""Shorter strings cannot be looked for: in megabytes of numbers they would be found by chance."""

_BITS = 20
_CHUNK = 1 << 22
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing


def patterns_in_file(patterns: Sequence[bytes], path: Path) -> set[int]:
    """Numbers of the patterns that stand in a file.

    Args:
        patterns: of at least `LEAST_BYTES` each.

    Raises:
        ValueError: a pattern is too short.
    """
    if short := [pattern for pattern in patterns if len(pattern) < LEAST_BYTES]:
        raise ValueError(f"{short[0]!r} is shorter than {LEAST_BYTES} bytes")
    if not patterns or not path.stat().st_size:
        return set()
    by_head: dict[bytes, set[int]] = defaultdict(set)
    for number, pattern in enumerate(patterns):
        by_head[pattern[:LEAST_BYTES]].add(number)
    table = np.zeros(1 << _BITS, dtype=bool)
    table[_hashes(np.frombuffer(b"".join(by_head), dtype="<u8"))] = True
    found: set[int] = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start in range(0, len(data), _CHUNK):
            # A head that begins in this chunk may end in the next one.
            chunk = data[start : start + _CHUNK + LEAST_BYTES - 1]
            for shift in range(min(LEAST_BYTES, len(chunk) - LEAST_BYTES + 1)):
                heads = np.frombuffer(chunk, "<u8", count=(len(chunk) - shift) // LEAST_BYTES, offset=shift)
                for place in (np.flatnonzero(table[_hashes(heads)]) * LEAST_BYTES + shift).tolist():
                    at = start + place
                    for number in by_head.get(chunk[place : place + LEAST_BYTES], set()) - found:
                        if data[at : at + len(patterns[number])] == patterns[number]:
                            found.add(number)
    return found


def _hashes(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (words * _MULTIPLIER) >> np.uint64(64 - _BITS)
