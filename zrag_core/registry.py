"""A registry: things of one kind by name, in the order in which they were added."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Protocol, TypeVar

from zrag_core.errors import ZragError


class Named(Protocol):
    """Anything that has a name."""

    @property
    def name(self) -> str:
        """Return the name under which it is registered."""
        ...


T = TypeVar("T", bound=Named)


class Registry(Mapping[str, T]):
    """Maps names to things of one kind; iteration is in the order of registration.

    Args:
        kind: what the things are, for messages ("system", "metric").
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, entry: T) -> T:
        """Register `entry` under its name and return it.

        Raises:
            ValueError: the name is taken.
        """
        if entry.name in self._entries:
            raise ValueError(f"{self.kind} '{entry.name}' is registered twice")
        self._entries[entry.name] = entry
        return entry

    def __getitem__(self, name: str) -> T:
        """Return the entry of that name.

        Raises:
            ZragError: there is none; the message names the nearest one.
        """
        if name in self._entries:
            return self._entries[name]
        nearest = difflib.get_close_matches(name, self._entries, n=1)
        remedy = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(self._entries)}"
        raise ZragError(f"unknown {self.kind} '{name}'", remedy=remedy)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
