"""What was erased in one store, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Erasure:
    """What was erased in one store.

    Attributes:
        store: its name for people.
        counts: how many of each kind of thing.
    """

    store: str
    counts: Mapping[str, int] = field(default_factory=dict)

    def line(self) -> str:
        """One line for the terminal."""
        parts = [f"{n:,} {what}" for what, n in self.counts.items() if n]
        return f"  {self.store:<14} {', '.join(parts) or 'nothing'}"
