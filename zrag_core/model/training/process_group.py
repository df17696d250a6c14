"""The processes that train one model together, and how they stay one: each takes a part of every batch, and gradients
are added up before each optimiser step.

Every process plans the whole batch from the same seed, divides its own part of a loss by the size of the whole (label
tokens or queries), and so the sum over the processes is what one process would have had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """Processes of which each holds the whole model; of one, nothing here does anything.

    Attributes:
        rank: number of this process.
        size: how many there are.
        device: type of device that each of them works on.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """Whether it is this process that saves states, reports, and writes the result."""
        return self.rank == 0

    def own(self, items: Sequence[Item], turn: int = 0) -> list[Item]:
        """This process' part of what all have planned: every `size`-th item, another process' first at every turn."""
        return list(items[(self.rank - turn) % self.size :: self.size])

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their sums over all processes; one that no process has stays None."""
        if self.size == 1:
            return
        ordered = list(parameters)
        had = torch.tensor([float(p.grad is not None) for p in ordered], device=self.device)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in ordered]
        flat = torch.cat([had, *(part.detach().flatten().float() for part in parts)])
        dist.all_reduce(flat)
        sums = flat[len(ordered) :].split([p.numel() for p in ordered])
        for parameter, anywhere, total in zip(ordered, flat[: len(ordered)].tolist(), sums, strict=True):
            parameter.grad = total.view_as(parameter).to(parameter.dtype) if anywhere else None

    def add(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Sums over all processes; each gives the same names in the same order."""
        if self.size == 1:
            return dict(numbers)
        sums = torch.tensor(list(numbers.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return dict(zip(numbers, sums.tolist(), strict=True))


ALONE = ProcessGroup()
"""One process."""


@contextmanager
def joined(device: torch.device) -> Iterator[ProcessGroup]:
    """The group that `accelerate launch` has started this process in: gloo between CPUs, NCCL between GPUs.

    Each process of a group on GPUs has one of its own, which is then its current device.
    """
    from accelerate import PartialState

    state = PartialState(cpu=device.type == "cpu")
    try:
        yield ProcessGroup(state.process_index, state.num_processes, state.device.type)
    finally:
        state.destroy_process_group()
