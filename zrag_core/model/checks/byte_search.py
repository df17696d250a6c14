"""Many byte strings looked for in a file at once, in one pass over it, whatever is in the file.

`bytes.find` reads the file once for every string. Here each place is looked up by its first eight bytes, as two words
of four, in a table of what the strings begin with (a Bloom filter of a kind), and only where both are in it the
strings themselves are compared.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LEAST_BYTES = 8
"""Shorter strings cannot be looked for: in megabytes of numbers they would be found by chance."""

_WORD = 4
_BITS = 20
_CHUNK = 1 << 22
_MULTIPLIER = np.uint32(2654435761)  # Knuth's multiplicative hash
_FIRST, _SECOND = np.uint8(1), np.uint8(2)


class ByteSearch:
    """Looks for byte strings.

    Args:
        patterns: of at least `LEAST_BYTES` each.

    Raises:
        ValueError: a pattern is too short.
    """

    def __init__(self, patterns: Sequence[bytes]):
        if short := [pattern for pattern in patterns if len(pattern) < LEAST_BYTES]:
            raise ValueError(f"{short[0]!r} is shorter than {LEAST_BYTES} bytes")
        self._patterns = tuple(patterns)
        self._by_head: dict[bytes, list[int]] = defaultdict(list)
        for number, pattern in enumerate(self._patterns):
            self._by_head[pattern[:LEAST_BYTES]].append(number)
        self._table = np.zeros(1 << _BITS, dtype=np.uint8)
        for head in self._by_head:
            first, second = _hashes(np.frombuffer(head, dtype="<u4"))
            self._table[first] |= _FIRST
            self._table[second] |= _SECOND

    def in_file(self, path: Path) -> set[int]:
        """Numbers of the patterns that stand in a file."""
        if not path.stat().st_size:
            return set()
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return self.in_bytes(data)

    def in_bytes(self, data: bytes | mmap.mmap) -> set[int]:
        """Numbers of the patterns that stand in `data`."""
        found: set[int] = set()
        if not self._patterns:
            return found
        for start in range(0, len(data), _CHUNK):
            # A head that begins in this chunk may end in the next one.
            chunk = data[start : start + _CHUNK + LEAST_BYTES - 1]
            for shift in range(_WORD):
                n = (len(chunk) - shift) // _WORD
                if n < 2:
                    continue
                marks = self._table[_hashes(np.frombuffer(chunk, dtype="<u4", count=n, offset=shift))]
                heads = np.flatnonzero((marks[:-1] & _FIRST) & (marks[1:] >> 1))
                for place in (heads * _WORD + shift).tolist():
                    for number in self._by_head.get(chunk[place : place + LEAST_BYTES], ()):
                        pattern, at = self._patterns[number], start + place
                        if number not in found and data[at : at + len(pattern)] == pattern:
                            found.add(number)
        return found


def _hashes(words: np.ndarray) -> np.ndarray:
    return (words * _MULTIPLIER) >> np.uint32(32 - _BITS)
