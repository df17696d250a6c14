"""The memory of N documents: slots, keys and words in tables, and how many documents hold each word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from zrag_core.model.architecture.document_keys import DocumentKeys, StoredKeys
from zrag_core.model.architecture.row_table import RowTable
from zrag_core.model.architecture.slot_router import inverse_frequency
from zrag_core.model.architecture.word_features import BUCKETS
from zrag_core.model.architecture.word_lists import WordIndex

SLOTS, KEYS, TITLE_WORDS, TEXT_WORDS = "slots", "keys", "title_words", "text_words"
_FREQUENCY = "frequency"

Tables = Mapping[str, RowTable]
"""Tables of the same documents by name; a row depends on its own document alone."""


@dataclass(frozen=True)
class MemoryTables:
    """What a memory holds.

    Attributes:
        tables: of N documents each.
        frequency: int32 [BUCKETS], documents that hold each word.
        absent: what routing finds in a document without a sentence.
    """

    tables: Tables
    frequency: torch.Tensor
    absent: float

    def __len__(self) -> int:
        return len(self.tables[SLOTS])

    @cached_property
    def idf(self) -> torch.Tensor:
        """How rare each word is in this memory, [BUCKETS]."""
        return inverse_frequency(self.frequency, len(self))

    @cached_property
    def idf_array(self) -> np.ndarray:
        """The same for scoring a sentence at a time, which reading single numbers out of a tensor would dominate."""
        return self.idf.cpu().numpy()

    @cached_property
    def document_keys(self) -> DocumentKeys:
        """What the documents are routed by; the index of their words is made when it is first asked for."""
        titles, texts = (WordIndex(self.tables[name]) for name in (TITLE_WORDS, TEXT_WORDS))
        return DocumentKeys(titles, texts, self.idf, StoredKeys(self.tables[KEYS], self.absent))

    def stored(self) -> dict[str, torch.Tensor]:
        """Tensors as they are written to disk."""
        tensors = {key: value for name, table in self.tables.items() for key, value in table.stored(name).items()}
        present = self.frequency.cpu().nonzero()[:, 0]
        counts = self.frequency.cpu()[present]
        return {**tensors, f"{_FREQUENCY}.word": present.int(), f"{_FREQUENCY}.documents": counts}

    @classmethod
    def restored(
        cls, names: Sequence[str], stored: Mapping[str, torch.Tensor], absent: float, device: torch.device
    ) -> MemoryTables:
        """The other way round, on a device.

        Raises:
            ValueError: tables that do not fit each other.
        """
        tables = {name: RowTable.restored(name, stored).to(device) for name in names}
        if len({len(table) for table in tables.values()}) > 1:
            raise ValueError("the tables of the memory are of different numbers of documents")
        frequency = torch.zeros(BUCKETS, dtype=torch.int32)
        frequency[stored[f"{_FREQUENCY}.word"].long()] = stored[f"{_FREQUENCY}.documents"]
        return cls(tables, frequency.to(device), absent)


def rearranged(first: Tables, second: Tables, rows: Sequence[int]) -> Tables:
    """Documents of two memories in a new order; the second one's are numbered on behind the first one's."""
    return {name: RowTable.joined([table, second[name]]).select(rows) for name, table in first.items()}
