"""Where a training run stands, for people and for curves."""

from __future__ import annotations

from dataclasses import dataclass


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
