"""A training run on its way to people: curves in MLflow, lines on the terminal, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zrag_core.evaluation.training_curves import training_curves
from zrag_core.model.training.progress import Progress, TrainingHooks
from zrag_pipeline.platform.peak_memory import peak_memory
from zrag_pipeline.platform.tracking import TrackedRun


@dataclass
class TrainingLog:
    """Takes the progress of a training run.

    Args:
        run: gets the losses as step-wise curves.
        log: gets a line for every `points_per_line`-th point.
        points: of the curves.
    """

    run: TrackedRun
    log: Callable[[str], None]
    points: int
    points_per_line: int
    history: list[Progress] = field(default_factory=list)

    def on_progress(self, progress: Progress) -> None:
        """Note one point."""
        self.history.append(progress)
        losses = {f"loss_{name}": value for name, value in progress.losses.items()}
        rates = {"learning_rate": progress.learning_rate, "tokens_per_s": progress.tokens_per_s}
        self.run.log_metrics(losses | rates, step=progress.step)
        if len(self.history) % self.points_per_line == 1 or progress.step == progress.steps:
            self.log(progress.line())

    def on_resume(self, step: int) -> None:
        """Say where a stopped run goes on."""
        self.log(f"resumed from step {step:,}")

    def hooks(self, state_folder: Path) -> TrainingHooks:
        """What the training functions of the library call; the resumable state lies in `state_folder`."""
        return TrainingHooks(state_folder, self.on_resume, self.on_progress, self.points)

    def curves(self) -> bytes | None:
        """Return the curves as a PNG; None where nothing was trained."""
        points = self.history
        return training_curves([p.step for p in points], [p.losses for p in points]) if points else None


def training_metrics(steps: int, resumed_from: int, seconds: float, losses: Mapping[str, float]) -> dict[str, float]:
    """What a finished training run took, and its last losses."""
    return {
        "steps": steps,
        "resumed_from_step": resumed_from,
        "training_seconds": seconds,
        "peak_memory_gb": peak_memory(),
        **{f"final_loss_{name}": value for name, value in losses.items()},
    }
