"""Decides what a sensor tick does about a changed corpus: a pure function of what is known at the tick.

The cursor holds only the content that was seen last and when it appeared; which content is in memory, what is going on,
and how often a change has been tried is read from the runs. So a tick that is lost or repeated does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

UPDATE = "update_memory"
FULL = "full"
WHOLE_LINEAGE = (FULL, "demo")
MEMORY_JOBS = (UPDATE, *WHOLE_LINEAGE, "train", "ingest")
MAX_ATTEMPTS = 3
# A corpus that is never quiet is acted on nevertheless, after this many times `settle_seconds`.
_PATIENCE = 20

RunState = Literal["going", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True)
class RunFacts:
    """A run that writes the memory, as far as a tick needs to know it.

    Attributes:
        run_id: Dagster's id.
        job: name of the job.
        state: `going` from the queue to the end, whatever step it is in.
        corpus: label of the corpus that it was asked for or has read; None: unknown.
        asked: fingerprint of the content it was asked for; None where a person started it.
        read: fingerprint of the content it has read; None: it has not come to that yet.
        change: id of the change it was asked for.
    """

    run_id: str
    job: str
    state: RunState
    corpus: str | None = None
    asked: str | None = None
    read: str | None = None
    change: str | None = None

    @property
    def content(self) -> str | None:
        """Fingerprint of the content that it leaves in memory."""
        return self.read or self.asked

    @property
    def short_id(self) -> str:
        """As the UI shows it."""
        return self.run_id[:8]


@dataclass(frozen=True)
class Report:
    """What the newest update says about drift.

    Attributes:
        run_id: the update's run.
        reasons: why everything should be run afresh; empty where it should not.
    """

    run_id: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watch:
    """The cursor: what the sensor saw at its last tick.

    Attributes:
        corpus: label of the watched corpus.
        started: when watching began, in whole seconds; makes ids of changes unique for ever.
        changes: how often the content was seen to change.
        content: fingerprint of the content seen last.
        since: when that content was first seen, in seconds.
        known: content that counts as known although no run has read it: what was there when watching began.
        waiting: since when the content has been another than that in memory, whatever it was; None: it is not.
    """

    corpus: str
    started: int
    changes: int
    content: str
    since: float
    known: str | None
    waiting: float | None = None

    @property
    def change(self) -> str:
        """Id of the newest change."""
        return f"{self.started}-{self.changes}"

    def to_json(self) -> str:
        """The cursor as text."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str | None, corpus: str, now: float) -> Watch | None:
        """Read a cursor; None where there is none for this corpus, or it cannot be read.

        A cursor of an earlier version (fingerprint and number of changes) is of whatever corpus was configured.
        """
        try:
            values = json.loads(text or "null")
            if "fingerprint" in values:
                content = str(values["fingerprint"])
                return Watch(corpus, int(now), int(values["changes"]), content, since=now, known=content)
            watch = Watch(**values)
        except (TypeError, ValueError, KeyError):
            return None
        return watch if watch.corpus == corpus else None


@dataclass(frozen=True)
class Action:
    """The outcome of a tick.

    Attributes:
        watch: the next cursor.
        reason: why, in plain words.
        job: job to start; None: nothing is started.
        run_key: key of the run.
        report: run whose report asks for it.
        noticed: whether the content is another than at the last tick, or is seen for the first time.
    """

    watch: Watch
    reason: str
    job: str | None = None
    run_key: str | None = None
    report: str | None = None
    noticed: bool = False


@dataclass(frozen=True)
class Tick:
    """The corpus and the runs at one look of the sensor.

    Attributes:
        corpus: label of the corpus.
        name: what to call it in messages.
        content: fingerprint of what it holds now.
        runs: runs that write the memory, those that ended last first.
        report: that of the newest successful update of this corpus.
        now: seconds.
        settle_seconds: how long the content must have stayed as it is; one that changes all the time is acted on
            after some times as long.
        updatable: whether all that is evaluated can follow row by row; the policy joint is trained afresh instead.
    """

    corpus: str
    name: str
    content: str
    runs: Sequence[RunFacts]
    report: Report | None
    now: float
    settle_seconds: float
    updatable: bool = True

    def action(self, former: Watch | None) -> Action:
        """Decide what to do about the corpus as it stands.

        Args:
            former: the cursor; None at the first tick.
        """
        held = self._held()
        watch = self._look(former, held)
        known = held or watch.known
        changed = self.content != known
        watch = replace(watch, waiting=min(watch.waiting or self.now, self.now) if changed else None)
        noticed = former is None or former.content != self.content
        retrain = self._unanswered()

        def wait(reason: str) -> Action:
            return Action(watch, reason, noticed=noticed)

        def start(job: str, reason: str, asked_by: Report | None = None) -> Action:
            # Dagster starts a run key only once, for ever. With the run before it in the key, a corpus may return to
            # an earlier state and a run be tried again, while the same tick asked twice starts one run.
            before = self.runs[0].run_id if self.runs else "none"
            run_key = f"{self.name}:{watch.change}:{self.content}:{job} after {before}"
            asked = replace(watch, waiting=None)
            return Action(asked, reason, job, run_key, asked_by.run_id if asked_by else None, noticed)

        going = next((run for run in self.runs if run.state == "going"), None)
        if going is not None:
            return wait(self._busy(going, changed=changed, retrain=retrain is not None))
        if former is None and not changed:
            return wait(f"watching the corpus of {self.name} from now on ({self.content}); the next change runs")
        if not changed and retrain is None:
            return wait(f"the corpus of {self.name} is unchanged ({self.content})")
        quiet, waited = self.now - watch.since, self.now - (watch.waiting or self.now)
        if changed and quiet < self.settle_seconds and waited < _PATIENCE * self.settle_seconds:
            until = f"waiting until it has been quiet for {self.settle_seconds:g} s"
            return wait(f"the corpus of {self.name} changed {quiet:.0f} s ago; {until}")
        if retrain is not None:
            # Counted by change: a later report of the same content, asking for the same, starts no new round.
            tries = self._tries(FULL, watch.change)
            drift = f"drift: {'; '.join(retrain.reasons)}"
            if not _spent(tries):
                return start(FULL, f"{drift}: retraining on the corpus of {self.name}{_again(tries)}", retrain)
            if not changed:
                return wait(f"{drift}; but {_outcome(tries)}; waiting for the next change of the corpus of {self.name}")
        what = f"the corpus of {self.name} changed: {known} -> {self.content} (change {watch.changes})"
        job = UPDATE if self.updatable else FULL
        tries = self._tries(job, watch.change)
        if _spent(tries):
            return wait(f"{what}, but {_outcome(tries)}; waiting for the next change")
        return start(job, f"{what}{_again(tries)}")

    def _held(self) -> str | None:
        """Fingerprint of the content in memory; None where no run of this corpus is known.

        A run that ended badly after it had read the corpus may have written the memory or not: then the answer is
        text that equals no fingerprint.
        """
        for run in self.runs:
            if run.corpus != self.corpus or run.state == "going":
                continue
            if run.state == "succeeded":
                return run.content
            if run.read is not None:
                return f"unsure since run {run.short_id} {run.state}"
        return None

    def _look(self, watch: Watch | None, held: str | None) -> Watch:
        """The cursor after looking at the corpus."""
        now, content = self.now, self.content
        if watch is None:
            changed = held is not None and held != content
            known = content if held is None else None
            return Watch(self.corpus, int(now), int(changed), content, since=now, known=known)
        if content != watch.content:
            return replace(watch, changes=watch.changes + 1, content=content, since=now)
        # A clock that was put back must not hold up a change.
        return replace(watch, since=min(watch.since, now))

    def _tries(self, job: str, change: str) -> list[RunFacts]:
        """Runs that were asked for a change and have not brought it about, newest first."""
        asked = (run for run in self.runs if run.job == job and run.change == change)
        return [run for run in asked if not (run.state == "succeeded" and run.content == self.content)]

    def _unanswered(self) -> Report | None:
        """The report, if it asks to run everything afresh and that has not been done since."""
        if self.report is None or not self.report.reasons:
            return None
        for run in self.runs:
            if run.run_id == self.report.run_id:
                break
            if run.state == "succeeded" and run.job in WHOLE_LINEAGE and run.corpus == self.corpus:
                return None
        return self.report

    def _busy(self, run: RunFacts, *, changed: bool, retrain: bool) -> str:
        going = f"{run.job} is still running (run {run.short_id})"
        if changed and run.corpus == self.corpus and run.content == self.content:
            return f"{going}: it brings the newest content of {self.name} ({self.content})"
        waiting = [text for text, waits in (("the change", changed), ("retraining", retrain)) if waits]
        if not waiting:
            return f"the corpus of {self.name} is unchanged ({self.content}); {going}"
        return f"{going}; {' and '.join(waiting)} of {self.name} wait{'' if len(waiting) > 1 else 's'}"


def _spent(tries: Sequence[RunFacts]) -> bool:
    """Whether no further run may be started: a person stopped the last one, or there were enough."""
    return len(tries) >= MAX_ATTEMPTS or bool(tries and tries[0].state == "cancelled")


def _again(tries: Sequence[RunFacts]) -> str:
    if not tries:
        return ""
    last = tries[0]
    why = "failed" if last.state == "failed" else f"read other content ({last.content})"
    return f", attempt {len(tries) + 1} of {MAX_ATTEMPTS} as run {last.short_id} {why}"


def _outcome(tries: Sequence[RunFacts]) -> str:
    last = tries[0]
    if last.state == "cancelled":
        return f"run {last.short_id} was cancelled"
    return f"{len(tries)} runs have not brought it about (the last one, {last.short_id}, {last.state})"
