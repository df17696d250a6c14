"""What a memory keeps of N documents: items behind each other, as many for each document as it needs.

On disk, in memory and after an update it is the same table, so opening one costs nothing but a look at where it lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch

from zrag_core.model.architecture.token_codec import slot_numbers, slot_scales

NUMBERS, SCALE = "numbers", "scale"
COUNT = "count"


@dataclass(frozen=True)
class RowTable:
    """Items of N documents.

    Attributes:
        columns: tensors [T, ...] by name, of all items, in the documents' order.
        counts: int32 [N], items of each document; they sum to T.
    """

    columns: Mapping[str, torch.Tensor]
    counts: torch.Tensor

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def size(self) -> int:
        """Items T of all documents."""
        return len(next(iter(self.columns.values())))

    @cached_property
    def starts(self) -> torch.Tensor:
        """int64 [N + 1]; the items of document i are those from starts[i] to starts[i + 1]."""
        zero = torch.zeros(1, dtype=torch.int64, device=self.counts.device)
        return torch.cat([zero, self.counts.long().cumsum(0)])

    @cached_property
    def width(self) -> int:
        """Items of the document that has most, at least one."""
        return max(1, int(self.counts.max())) if len(self.counts) else 1

    def select(self, rows: Sequence[int] | torch.Tensor) -> RowTable:
        """The items of some documents, in the order given."""
        counts, places = self._places(rows)
        return RowTable({name: column[places] for name, column in self.columns.items()}, counts)

    def padded(self, name: str, rows: Sequence[int] | torch.Tensor | None = None, fill: float = 0) -> torch.Tensor:
        """A column of some documents (left out: all), [B, w, ...], filled up behind what each has."""
        counts, places = self._places(range(len(self)) if rows is None else rows)
        column = self.columns[name]
        width = max(1, int(counts.max())) if len(counts) else 1
        result = column.new_full((len(counts), width, *column.shape[1:]), fill)
        result[self.mask(counts, width)] = column[places]
        return result

    def vectors(self, rows: Sequence[int] | torch.Tensor | None = None) -> torch.Tensor:
        """Vectors that were stored a byte a number, of some documents (left out: all), float32 [B, w, d]."""
        chosen = self if rows is None else self.select(rows)
        values = chosen.columns[NUMBERS].float() * chosen.columns[SCALE].float()[:, None]
        return RowTable({NUMBERS: values}, chosen.counts).padded(NUMBERS)

    def to(self, device: torch.device) -> Self:
        """The table on a device."""
        columns = {name: column.to(device) for name, column in self.columns.items()}
        return type(self)(columns, self.counts.to(device))

    def stored(self, name: str) -> dict[str, torch.Tensor]:
        """Tensors as they are written to disk, their names beginning with `name`."""
        columns = {**self.columns, COUNT: self.counts}
        return {f"{name}.{column}": tensor.detach().cpu().contiguous() for column, tensor in columns.items()}

    @classmethod
    def restored(cls, name: str, stored: Mapping[str, torch.Tensor]) -> Self:
        """The other way round.

        Raises:
            ValueError: columns of unequal length.
        """
        columns = {key.removeprefix(f"{name}."): value for key, value in stored.items() if key.startswith(f"{name}.")}
        counts = columns.pop(COUNT)
        if any(len(column) != int(counts.sum()) for column in columns.values()):
            raise ValueError(f"the columns of '{name}' are not as long as its counts say")
        return cls(columns, counts)

    @classmethod
    def joined(cls, tables: Sequence[RowTable]) -> Self:
        """Documents of several tables, one behind the other."""
        columns = {name: torch.cat([table.columns[name] for table in tables]) for name in tables[0].columns}
        return cls(columns, torch.cat([table.counts for table in tables]))

    @classmethod
    def of_padded(cls, columns: Mapping[str, torch.Tensor], used: torch.Tensor) -> Self:
        """A table of tensors [N, w, ...], of which the items are kept that are used [N, w]."""
        return cls({name: tensor[used] for name, tensor in columns.items()}, used.sum(1).int())

    @staticmethod
    def mask(counts: torch.Tensor, width: int) -> torch.Tensor:
        """[B, width], which places of padded rows hold an item."""
        return torch.arange(width, device=counts.device)[None] < counts[:, None]

    def _places(self, rows: Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Counts [B] of some documents, and where their items lie."""
        chosen = torch.as_tensor(rows, dtype=torch.int64, device=self.counts.device)
        counts = self.counts[chosen]
        ends = counts.long().cumsum(0)
        shift = torch.repeat_interleave(self.starts[chosen] - (ends - counts), counts)
        return counts, torch.arange(len(shift), device=shift.device) + shift


def as_bytes(vectors: torch.Tensor) -> dict[str, torch.Tensor]:
    """Columns that keep vectors [T, d] in a byte a number and a scale each; nothing is lost of vectors that stand on
    such a grid already (`token_codec.quantise`)."""
    return {NUMBERS: slot_numbers(vectors).to(torch.int8), SCALE: slot_scales(vectors)[:, 0].half()}
