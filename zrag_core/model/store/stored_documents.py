"""The documents of a checkpoint: a line of JSON each, read and checked when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch

from zrag_core.corpus.types import Document
from zrag_core.errors import CheckpointError

_CHUNK = 1 << 24  # bytes in which line ends are looked for at once
_NEWLINE = 10


class StoredDocuments(Sequence[Document]):
    """Documents in row order, of which those in memory are the ones that were asked for.

    Args:
        file: `documents.jsonl`.
        hashes: SHA-256 of each document's content, bytes [N, 32].

    Raises:
        ValueError: there are more or fewer documents than hashes.
    """

    def __init__(self, file: Path, hashes: torch.Tensor):
        self._file = file
        self._hashes = hashes
        self._read: dict[int, Document] = {}
        size = file.stat().st_size
        self._data = np.memmap(file, np.uint8, "r") if size else np.zeros(0, np.uint8)
        ends = [
            np.flatnonzero(self._data[start : start + _CHUNK] == _NEWLINE) + start for start in range(0, size, _CHUNK)
        ]
        self._ends = np.concatenate(ends) if ends else np.zeros(0, np.int64)
        if len(self._ends) != len(hashes):
            raise ValueError(f"{len(self._ends)} documents for {len(hashes)} rows of Z")

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, row: int) -> Document: ...

    @overload
    def __getitem__(self, row: slice) -> tuple[Document, ...]: ...

    def __getitem__(self, row: int | slice) -> Document | tuple[Document, ...]:
        """A document, or some.

        Raises:
            CheckpointError: it cannot be read, or is not the one that was written.
        """
        if isinstance(row, slice):
            return tuple(self[number] for number in range(len(self))[row])
        row = range(len(self))[row]  # negative rows, and an IndexError behind the end
        if row not in self._read:
            self._read[row] = self._checked(row)
        return self._read[row]

    def _checked(self, row: int) -> Document:
        start = self._ends[row - 1] + 1 if row else 0
        try:
            document = Document(**json.loads(self._data[start : self._ends[row]].tobytes()))
        except (ValueError, TypeError) as error:
            raise CheckpointError(
                f"document number {row + 1} cannot be read ({str(error).splitlines()[0]})",
                where=str(self._file),
                remedy="the folder was changed by hand; restore it or train again",
            ) from error
        if bytes.fromhex(document.content_hash) != self._hashes[row].numpy().tobytes():
            raise CheckpointError(
                f"document '{document.id}' does not match the content hash of its row",
                where=str(self._file),
                remedy="the folder was changed by hand; restore it or train again",
            )
        return document
