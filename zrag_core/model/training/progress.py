"""Where a training run stands: its running losses, its resumable state, and reports for people and curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zrag_core.model.training.state import SavedProgress, Trained, load_state, save_state


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands; losses are running means in nats per token (routing: per query)."""

    step: int
    steps: int
    losses: dict[str, float]
    learning_rate: float
    tokens_per_s: float
    seconds_left: float

    def line(self) -> str:
        """One line for people."""
        losses = "  ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        minutes, seconds = divmod(round(self.seconds_left), 60)
        return (
            f"step {self.step:,} of {self.steps:,}  {losses}  {self.tokens_per_s:,.0f} tokens/s  "
            f"{minutes} min {seconds:02d} s left"
        )


@dataclass(frozen=True, slots=True)
class TrainingHooks:
    """How a training run is resumed and followed.

    Attributes:
        state_folder: where the resumable state is kept; None keeps none.
        on_resume: called with the step that training goes on from, where it does not start afresh.
        on_progress: called about `progress_times` times, at even steps, and at the end.
    """

    state_folder: Path | None = None
    on_resume: Callable[[int], None] | None = None
    on_progress: Callable[[Progress], None] | None = None
    progress_times: int = 60


class TrainingMonitor:
    """Averages the losses of one training run, keeps its resumable state, and reports.

    Args:
        hooks: see there; a state of this training is loaded at once.
        trained: what the state is of.
        steps: of the whole run.
        save_every: steps between states.
        decay: weight of the former mean in the running one.
        is_main: of several processes that train together, one saves and reports; all of them load.

    Attributes:
        first: step that training goes on from.
        losses: running means.
        level: of a curriculum.
    """

    def __init__(
        self,
        hooks: TrainingHooks,
        trained: Trained,
        *,
        steps: int,
        save_every: int,
        decay: float,
        is_main: bool = True,
    ):
        self._hooks, self._trained, self._is_main = hooks, trained, is_main
        self._steps, self._save_every, self._decay = steps, save_every, decay
        before = SavedProgress(0, {}, 0.0) if hooks.state_folder is None else load_state(hooks.state_folder, trained)
        self.first, self.losses, self.level = before.step, dict(before.losses), before.level
        if self.first and hooks.on_resume and is_main:
            hooks.on_resume(self.first)
        self._seconds_before, self._started, self._tokens = before.seconds, time.monotonic(), 0

    @property
    def seconds(self) -> float:
        """Of training, over all parts of a run that was resumed."""
        return self._seconds_before + time.monotonic() - self._started

    def average(self, losses: Mapping[str, float]) -> None:
        """Take the losses of a step into the running means."""
        for name, value in losses.items():
            former = self.losses.get(name)
            self.losses[name] = value if former is None else self._decay * former + (1 - self._decay) * value

    def finish_step(
        self, step: int, tokens: int, learning_rate: float, extra: Mapping[str, float] | None = None
    ) -> None:
        """Save the state and report, where it is time for that.

        Args:
            step: that was just taken, counted from 0.
            tokens: that it read.
            extra: further figures for the report.
        """
        if not self._is_main:
            return
        done = step + 1
        self._tokens += tokens
        hooks, ends = self._hooks, done == self._steps
        if hooks.state_folder is not None and done % self._save_every == 0 and not ends:
            progress = SavedProgress(done, dict(self.losses), self.seconds, self.level)
            save_state(hooks.state_folder, self._trained, progress)
        if hooks.on_progress and (done % max(1, self._steps // hooks.progress_times) == 0 or ends):
            elapsed = time.monotonic() - self._started
            left = elapsed / (done - self.first) * (self._steps - done)
            figures = {**self.losses, **(extra or {})}
            hooks.on_progress(Progress(done, self._steps, figures, learning_rate, self._tokens / elapsed, left))
