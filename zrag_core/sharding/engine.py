"""What goes through shards: this process, or the workers of a cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")
Worker = Callable[[Item], Made]
Item_contra = TypeVar("Item_contra", contravariant=True)
Made_co = TypeVar("Made_co", covariant=True)


class Recipe(Protocol[Item_contra, Made_co]):
    """How a worker is made where it works; it travels there, and so holds folders and settings, no model."""

    def open(self) -> Callable[[Item_contra], Made_co]:
        """A worker, which makes something of a shard that depends on that shard alone."""
        ...


class Engine(ABC):
    """Gives shards to workers.

    Attributes:
        is_local: whether they work in this process.
    """

    is_local: ClassVar[bool]

    @abstractmethod
    def run(
        self,
        recipe: Recipe[Item, Made],
        shards: Sequence[Item],
        *,
        own: Worker[Item, Made] | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Made]:
        """What the workers make of the shards, in the shards' order.

        Args:
            own: a worker of the same recipe that is open in this process already; left out: one is made.
            on_done: called with the number of shards that are done, after each of them.
        """


class LocalEngine(Engine):
    """Goes through the shards one after the other, in this process."""

    is_local = True

    def run(
        self,
        recipe: Recipe[Item, Made],
        shards: Sequence[Item],
        *,
        own: Worker[Item, Made] | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Made]:
        """See `Engine`."""
        worker = own or recipe.open()
        made = []
        for number, shard in enumerate(shards, 1):
            made.append(worker(shard))
            if on_done:
                on_done(number)
        return made
