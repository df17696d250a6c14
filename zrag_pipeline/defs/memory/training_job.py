"""What there is to train, in a form that a run can hand to other processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

from zrag_core.model.training.process_group import ALONE, ProcessGroup
from zrag_core.model.training.progress import TrainingHooks
from zrag_core.settings import Settings

HooksFor = Callable[[Path], TrainingHooks]
"""Hooks of a training whose resumable state lies in this folder."""
Log = Callable[[str], None]


class TrainingJob(Protocol):
    """A training with all that its result depends on.

    Attributes:
        kind: which one; the others that train it find its class by this name.
    """

    kind: ClassVar[str]

    @property
    def settings(self) -> Settings:
        """Settings of the run."""

    @property
    def processes(self) -> int:
        """How many of its own it has; 0: it is trained by the run."""

    def values(self) -> dict[str, Any]:
        """The job as JSON."""

    def train(self, hooks: HooksFor, log: Log, group: ProcessGroup = ALONE) -> dict[str, Any] | None:
        """Train and write the result; what is known of it, as JSON, and None in all processes but the main one."""


def settings_values(settings: Settings) -> dict[str, Any]:
    """Settings as JSON, with the threads that this process would take: several processes are to share them."""
    backbone = settings.backbone.model_copy(update={"threads": settings.backbone.cpu_threads})
    return settings.model_copy(update={"backbone": backbone}).model_dump(mode="json")


def path_value(path: Path | None) -> str | None:
    """A path as JSON."""
    return None if path is None else str(path)


def path_of(value: str | None) -> Path | None:
    """The path that a value came from."""
    return None if value is None else Path(value)
