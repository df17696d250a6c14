"""What a memory check is: its figures, their thresholds, and where its function stands. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

_ROUNDING = 1e-9  # 0.93 - 0.03 is above 0.9


@dataclass(frozen=True, slots=True)
class MemoryCheck:
    """One measured figure, a row of the table `memory_checks`.

    Attributes:
        parameter: of a sweep: alpha, number of documents or of slots.
        threshold, passed: None where the figure only describes.
    """

    check_name: str
    parameter: float | None
    value: float
    threshold: float | None = None
    passed: bool | None = None


@dataclass(frozen=True, slots=True)
class Threshold:
    """The value that a figure has to reach, or must not exceed, and why.

    Attributes:
        above: the figure, in a word, that the value is added to; empty where there is none.
        gates: whether a checkpoint that fails is kept from becoming the champion.
    """

    value: float
    at_least: bool
    reason: str
    above: str = ""
    gates: bool = True

    def passes(self, value: float, reference: float = 0.0) -> bool:
        """Whether `value` is on the right side of the threshold, or on it; `reference` is the figure it is above."""
        excess = value - reference - self.value
        return excess >= -_ROUNDING if self.at_least else excess <= _ROUNDING

    def __str__(self) -> str:
        side = "at least" if self.at_least else "at most"
        return f"{side} {self.value:g}" + (f" above {self.above}" if self.above else "")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that is judged or drawn as a bar.

    Attributes:
        name: in the table `memory_checks`.
        description: what it tells, in one sentence.
        threshold: None where it only describes.
        bar: its label in the plot of which slots are read; empty where it is not drawn there.
    """

    name: str
    description: str
    threshold: Threshold | None = None
    bar: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """How a figure that is measured at several values of a parameter is drawn.

    Attributes:
        title: of the plot.
        axis: label of the parameter's axis.
        logarithmic: whether that axis is.
    """

    title: str
    axis: str
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class MemoryCheckSpec:
    """A registered check.

    Attributes:
        name: of the check and of its function.
        module: where the function stands; it is imported when the check runs, as that takes torch.
        figures: those that are judged or drawn as bars; the function may report others that only describe.
        sweep: given where it sweeps a parameter.
        serving: whether it tells how well those who ask are served, and not how the memory works.
    """

    name: str
    module: str
    figures: tuple[Figure, ...] = ()
    sweep: Sweep | None = None
    serving: bool = False

    def function(self) -> Callable[[Any], list[MemoryCheck]]:
        """The check itself: figures of a `Probe` (of an update: `UpdateProbe`), none where there is nothing to ask."""
        return cast(Callable[[Any], list[MemoryCheck]], getattr(importlib.import_module(self.module), self.name))
