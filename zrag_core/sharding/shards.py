"""How a sequence is cut into shards: by its length and their size alone, never by how many workers there are.

What a row is written with, and what a question is asked beside, is the shard that it stands in: padding and batches are
the same wherever a shard is worked on, and so is the last bit of what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def cut(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Shards of `size` neighbouring items, the last one smaller; of nothing, one shard of nothing."""
    return [items[start : start + size] for start in range(0, max(1, len(items)), size)]
