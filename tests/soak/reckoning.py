"""What a soak run shows: which change arrived in memory, when, and what went wrong."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A state of the corpus.

    Attributes:
        at: when it was complete, in seconds.
        content: its fingerprint; an earlier state has its earlier fingerprint.
        what: what was done, in words.
    """

    at: float
    content: str
    what: str = ""


@dataclass(frozen=True)
class Run:
    """A run that ended.

    Attributes:
        run_id: Dagster's id.
        job: name of the job.
        succeeded: whether it ended well.
        started: when its process began, in seconds.
        ended: when it ended.
        read: fingerprint of the content that it has read.
        key: its run key.
    """

    run_id: str
    job: str
    succeeded: bool
    started: float
    ended: float
    read: str | None
    key: str | None


@dataclass(frozen=True)
class Reckoning:
    """The outcome.

    Attributes:
        problems: what must not be, in words; empty: all is well.
        delays: seconds from each change until it, or a later state, was in memory (the run that brought it had ended).
    """

    problems: tuple[str, ...]
    delays: tuple[float, ...]

    @property
    def median_delay(self) -> float:
        """In seconds; NaN where nothing arrived."""
        return statistics.median(self.delays) if self.delays else float("nan")


def reckon(first: str, changes: Sequence[Change], runs: Sequence[Run]) -> Reckoning:
    """Compare what was done to the corpus with the runs that followed.

    Args:
        first: fingerprint of the content in memory at the beginning.
        changes: all of them, in order.
        runs: those that the sensor started, in the order they started.
    """
    states = [first, *(change.content for change in changes)]
    times = [float("-inf"), *(change.at for change in changes)]
    brought = [_state_read(run, states, times) for run in runs]
    arrivals = [(state, run.ended) for run, state in zip(runs, brought, strict=True) if run.succeeded and state]
    # What was undone before anything was done about it was in memory already.
    arrivals += [
        (n, at) for n, (state, at) in enumerate(zip(states, times, strict=True)) if _held(first, runs, at) == state
    ]
    problems, delays = [], []
    for index, change in enumerate(changes, start=1):
        arrived = [at for state, at in arrivals if state >= index]
        if arrived:
            delays.append(min(arrived) - change.at)
        else:
            problems.append(f"lost: change {index} ({change.what}) never arrived in memory")
    if not problems and _held(first, runs, float("inf")) != states[-1]:
        problems.append("lost: the last state of the corpus is not what was read last")
    return Reckoning((*problems, *_duplicates(runs, brought, len(changes))), tuple(delays))


def _held(first: str, runs: Sequence[Run], at: float) -> str | None:
    """Fingerprint of the content in memory at a time."""
    ended = [run for run in runs if run.succeeded and run.ended <= at]
    return max(ended, key=lambda run: run.ended).read if ended else first


def _state_read(run: Run, states: Sequence[str], times: Sequence[float]) -> int | None:
    """Number of the state that a run has read: the newest with its fingerprint that there was before it ended."""
    known = [index for index, state in enumerate(states) if state == run.read and times[index] < run.ended]
    return known[-1] if known else None


def _duplicates(runs: Sequence[Run], brought: Sequence[int | None], changes: int) -> list[str]:
    problems = [f"two runs have the key {key}" for key, n in Counter(run.key for run in runs).items() if n > 1]
    for one, other in itertools.pairwise(runs):
        if other.started < one.ended:
            problems.append(f"{one.job} {one.run_id[:8]} and {other.job} {other.run_id[:8]} ran at the same time")
    updates = [
        (run, state) for run, state in zip(runs, brought, strict=True) if run.succeeded and run.job == "update_memory"
    ]
    for (one, state), (other, later) in itertools.pairwise(updates):
        if state is not None and state == later:
            problems.append(f"{one.run_id[:8]} and {other.run_id[:8]} brought the same state of the corpus")
    if len(updates) > changes:
        problems.append(f"{len(updates)} updates for {changes} changes")
    return problems
