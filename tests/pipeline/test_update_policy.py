"""The sensor's decisions as a pure function: case by case, and in a world where everything goes wrong in turn."""

import dataclasses
import json

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zrag_pipeline.defs.automation.policy import FULL, MAX_ATTEMPTS, UPDATE, Report, RunFacts, Tick, Watch

SETTLE = 30.0
CORPUS = "/말뭉치"
DRIFT = "34% of the corpus changed since the last full run (threshold 30%)"


def tick(watch, content, runs=(), *, report=None, now=1000.0, **options):
    seen = Tick(CORPUS, "demo.yaml", content, runs, report, now, SETTLE, **options)
    return seen.action(watch)


def seen(content, *, now=1000.0, runs=(), known=None):
    """The cursor after watching from `known` (or `content`) on and seeing `content`."""
    first = tick(None, known or content, runs, now=now - 100)
    return tick(first.watch, content, runs, now=now).watch


def run(number, state, **facts):
    return RunFacts(f"{number:08d}-run", facts.pop("job", UPDATE), state, corpus=facts.pop("corpus", CORPUS), **facts)


def test_the_first_tick_takes_note_of_a_corpus_that_no_run_has_read():
    decision = tick(None, "aaaa")
    assert decision.job is None
    assert decision.reason == "watching the corpus of demo.yaml from now on (aaaa); the next change runs"
    assert decision.noticed
    after = tick(decision.watch, "aaaa", now=2000.0)
    assert after.reason == "the corpus of demo.yaml is unchanged (aaaa)"
    assert not after.noticed


def test_what_changed_before_watching_began_is_acted_on_where_a_run_tells_what_is_in_memory():
    runs = [run(1, "succeeded", job=FULL, read="aaaa")]
    first = tick(None, "bbbb", runs)
    assert first.job is None
    assert "waiting until it has been quiet for 30 s" in first.reason
    assert tick(first.watch, "bbbb", runs, now=1030.0).job == UPDATE


def test_a_change_is_acted_on_when_it_has_been_quiet_for_long_enough():
    watch = seen("bbbb", known="aaaa")
    early = tick(watch, "bbbb", now=1012.0)
    assert early.job is None
    assert early.reason == "the corpus of demo.yaml changed 12 s ago; waiting until it has been quiet for 30 s"
    burst = tick(early.watch, "cccc", now=1029.0)
    assert (burst.job, burst.noticed) == (None, True)
    assert tick(burst.watch, "cccc", now=1058.0).job is None
    acted = tick(burst.watch, "cccc", now=1059.0)
    assert acted.job == UPDATE
    assert acted.reason == "the corpus of demo.yaml changed: aaaa -> cccc (change 2)"


def test_a_corpus_that_is_never_quiet_is_acted_on_nevertheless():
    watch, now, acted = seen("aaaa"), 1000.0, []
    for number in range(125):
        now += 10
        decision = tick(watch, f"content {number}", now=now)
        watch = Watch.from_json(decision.watch.to_json(), CORPUS, now)
        acted += [now] * (decision.job is not None)
    assert acted == [1610.0, 2220.0]  # 600 s after the first change that waited


def test_a_memory_that_cannot_be_updated_is_made_afresh():
    watch = seen("bbbb", known="aaaa")
    assert tick(watch, "bbbb", now=1031.0, updatable=False).job == FULL
    failed = [run(n, "failed", job=FULL, change=watch.change) for n in range(MAX_ATTEMPTS)]
    assert tick(watch, "bbbb", failed, now=1031.0, updatable=False).job is None


def test_changed_and_back_before_it_was_quiet_is_nothing():
    watch = seen("bbbb", known="aaaa")
    decision = tick(watch, "aaaa", now=1010.0)
    assert decision.job is None
    assert "is unchanged" in decision.reason


def test_an_earlier_state_runs_again_under_another_key():
    first = tick(seen("bbbb", known="aaaa"), "bbbb", now=1030.0)
    runs = [run(1, "succeeded", change=first.watch.change, read="bbbb")]
    back = tick(first.watch, "aaaa", runs, now=1100.0)
    second = tick(back.watch, "aaaa", runs, now=1130.0)
    assert second.job == UPDATE
    runs = [run(2, "succeeded", change=second.watch.change, read="aaaa"), *runs]
    again = tick(tick(second.watch, "bbbb", runs, now=1200.0).watch, "bbbb", runs, now=1230.0)
    assert again.job == UPDATE
    assert len({first.run_key, second.run_key, again.run_key}) == 3


@pytest.mark.parametrize("job", [UPDATE, FULL, "demo", "train"])
def test_while_a_run_goes_on_nothing_starts_and_the_change_waits(job):
    watch = seen("bbbb", known="aaaa")
    going = run(1234, "going", job=job, corpus=None)
    decision = tick(watch, "bbbb", [going], now=2000.0)
    assert decision.job is None
    assert decision.reason == f"{job} is still running (run 00001234); the change of demo.yaml waits"
    assert tick(decision.watch, "bbbb", [], now=2001.0).job == UPDATE


def test_a_run_that_has_read_the_newest_content_is_enough():
    watch = seen("cccc", known="aaaa")
    going = run(1, "going", asked="bbbb", read="cccc")
    assert "it brings the newest content of demo.yaml (cccc)" in tick(watch, "cccc", [going], now=2000.0).reason
    ended = dataclasses.replace(going, state="succeeded")
    assert "is unchanged" in tick(watch, "cccc", [ended], now=2001.0).reason
    assert tick(watch, "dddd", [ended], now=2001.0).watch.changes == 2


def test_a_failed_change_is_tried_three_times_and_then_waits_for_the_next():
    watch = seen("bbbb", known="aaaa")
    runs, keys = [], set()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        decision = tick(watch, "bbbb", runs, now=1100.0 + attempt)
        assert decision.job == UPDATE
        assert (f"attempt {attempt} of 3" in decision.reason) == (attempt > 1)
        keys.add(decision.run_key)
        runs = [run(attempt, "failed", change=decision.watch.change), *runs]
    assert len(keys) == MAX_ATTEMPTS
    stuck = tick(watch, "bbbb", runs, now=1200.0)
    assert stuck.job is None
    assert "3 runs have not brought it about (the last one, 00000003, failed); waiting for the next" in stuck.reason
    new = tick(stuck.watch, "cccc", runs, now=1300.0)
    assert tick(new.watch, "cccc", runs, now=1330.0).job == UPDATE


def test_a_run_that_a_person_stopped_is_not_tried_again():
    watch = seen("bbbb", known="aaaa")
    decision = tick(watch, "bbbb", [run(1, "cancelled", change=watch.change)], now=1100.0)
    assert decision.job is None
    assert "run 00000001 was cancelled; waiting for the next change" in decision.reason


def test_after_a_run_that_failed_with_the_corpus_read_the_former_content_is_not_taken_as_held():
    runs = [run(2, "failed", read="bbbb"), run(1, "succeeded", read="aaaa")]
    watch = seen("aaaa", runs=runs)
    decision = tick(watch, "aaaa", runs, now=1100.0)
    assert decision.job == UPDATE
    assert "unsure since run 00000002 failed -> aaaa" in decision.reason
    # One that failed before it came to the corpus has changed nothing.
    runs = [run(2, "failed"), run(1, "succeeded", read="aaaa")]
    assert "is unchanged" in tick(watch, "aaaa", runs, now=1100.0).reason


def test_runs_of_other_corpora_say_nothing_about_this_one():
    watch = seen("aaaa")
    other = run(1, "succeeded", job="demo", corpus="almanac en 0", read="eeee")
    assert "is unchanged" in tick(watch, "aaaa", [other], now=1100.0).reason


def test_drift_retrains_once():
    update = run(1, "succeeded", read="bbbb")
    report = Report(update.run_id, (DRIFT,))
    watch = seen("bbbb", runs=[update])
    decision = tick(watch, "bbbb", [update], report=report, now=1100.0)
    assert (decision.job, decision.report) == (FULL, update.run_id)
    assert decision.reason == f"drift: {DRIFT}: retraining on the corpus of demo.yaml"
    going = run(2, "going", job=FULL)
    waiting = tick(watch, "bbbb", [going, update], report=report, now=1110.0)
    assert waiting.job is None
    assert waiting.reason == "full is still running (run 00000002); retraining of demo.yaml waits"
    done = run(2, "succeeded", job=FULL, read="bbbb")
    assert tick(watch, "bbbb", [done, update], report=report, now=1120.0).job is None


def test_a_change_that_waits_together_with_drift_is_brought_by_the_retraining_once_it_is_quiet():
    update = run(1, "succeeded", read="aaaa")
    report = Report(update.run_id, (DRIFT,))
    watch = seen("bbbb", known="aaaa", runs=[update])
    assert tick(watch, "bbbb", [update], report=report, now=1010.0).job is None
    assert tick(watch, "bbbb", [update], report=report, now=1030.0).job == FULL


def test_retraining_that_keeps_failing_holds_up_no_change_and_starts_no_new_round():
    update = run(1, "succeeded", read="aaaa")
    report = Report(update.run_id, (DRIFT,))
    watch = seen("bbbb", known="aaaa", runs=[update])
    failed = [run(10 + n, "failed", job=FULL, change=watch.change) for n in range(MAX_ATTEMPTS)]
    runs = [*failed, update]
    assert tick(watch, "bbbb", runs, report=report, now=1100.0).job == UPDATE
    later = run(20, "succeeded", change=watch.change, read="bbbb")
    decision = tick(watch, "bbbb", [later, *runs], report=Report(later.run_id, (DRIFT,)), now=1200.0)
    assert decision.job is None
    assert "waiting for the next change" in decision.reason


def test_the_same_tick_asked_twice_names_the_same_run():
    watch = seen("bbbb", known="aaaa")
    runs = [run(1, "failed", change=watch.change)]
    first, second = (tick(watch, "bbbb", runs, now=now) for now in (1100.0, 1100.5))
    assert first.run_key == second.run_key


def test_a_clock_that_was_put_back_holds_up_no_change():
    watch = seen("bbbb", known="aaaa")
    back = tick(watch, "bbbb", now=500.0)
    assert tick(back.watch, "bbbb", now=530.0).job == UPDATE


def test_cursors_are_read_as_they_were_written_and_broken_ones_start_anew():
    watch = seen("bbbb", known="aaaa")
    assert Watch.from_json(watch.to_json(), CORPUS, 0.0) == watch
    assert Watch.from_json(watch.to_json(), "another corpus", 0.0) is None
    for text in (None, "", "{", "3", "null", "[]", '{"corpus": 1}', '{"fingerprint": "a"}'):
        assert Watch.from_json(text, CORPUS, 0.0) is None


def test_a_cursor_of_the_former_version_loses_no_change():
    former = Watch.from_json(json.dumps({"fingerprint": "aaaa", "changes": 7}), CORPUS, 900.0)
    assert "is unchanged" in tick(former, "aaaa").reason
    change = tick(former, "bbbb")
    assert tick(change.watch, "bbbb", now=1030.0).job == UPDATE


class World(RuleBasedStateMachine):
    """A corpus that changes, a daemon that dies, people who run and stop things, and runs that end as they like.

    The memory really holds `memory`; the sensor must bring it to `content` without ever knowing it.
    """

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.content = self.memory = "a"
        self.cursor = None
        self.going = None
        self.ended = []
        self.keys = set()
        self.reports = {}
        self.count = 0

    @initialize(known=st.booleans())
    def begin(self, known):
        """Watching begins with a run that tells what is in memory, or with the corpus that is in memory."""
        if known:
            self.make(FULL)
            self.read("")
            self.end("succeeded")
        else:
            self.tick(0.0, "")

    # What the sensor sees and does.

    def decide(self):
        runs = ([self.going] if self.going else []) + self.ended
        updates = (r for r in self.ended if r.job == UPDATE and r.state == "succeeded")
        newest = next(updates, None)
        report = newest and Report(newest.run_id, self.reports.get(newest.run_id, ()))
        watch = Watch.from_json(self.cursor, CORPUS, self.now)
        return tick(watch, self.content, runs, report=report, now=self.now)

    def start(self, decision):
        """What the daemon does with a request: a key that was started before is dropped."""
        assert self.going is None, "two runs at once"
        newest = self.ended[0] if self.ended else None
        if decision.job == UPDATE and newest is not None:
            assert not (newest.state == "succeeded" and newest.read == self.content), "a run for unchanged content"
        assert decision.run_key not in self.keys, "a change that is dropped for ever"
        self.keys.add(decision.run_key)
        watch = decision.watch
        self.make(decision.job, corpus=CORPUS, asked=watch.content, change=watch.change)

    def make(self, job, **facts):
        self.count += 1
        self.going = RunFacts(f"run-{self.count:08d}", job, "going", **facts)

    @rule(
        later=st.sampled_from([1.0, 20.0, 40.0]),
        died=st.sampled_from(["", "", "", "", "before the run", "before the cursor"]),
    )
    def tick(self, later, died):
        self.now += later
        decision = self.decide()
        if decision.job is not None and died != "before the run":
            self.start(decision)
        if not died:
            self.cursor = decision.watch.to_json()

    @precondition(lambda self: any(run.read for run in self.ended))
    @rule()
    def lose_the_cursor(self):
        self.cursor = None

    @rule(content=st.sampled_from("abc"))
    def change_and_tick_until_quiet(self, content):
        self.content = content
        for later in (1.0, SETTLE):
            self.tick(later, "")

    # What happens to the corpus.

    @rule(content=st.sampled_from("abc"))
    def change(self, content):
        self.content = content

    @precondition(lambda self: self.going is None)
    @rule(job=st.sampled_from([UPDATE, FULL]))
    def start_by_hand(self, job):
        self.make(job)

    # What runs do.

    @precondition(lambda self: self.going is not None and self.going.read is None)
    @rule(between=st.sampled_from(["", "", "a", "b", "c"]))
    def read(self, between):
        """The run reads what is there, or what is there between two looks of the sensor."""
        self.going = dataclasses.replace(self.going, corpus=CORPUS, read=between or self.content)

    @precondition(lambda self: self.going is not None)
    @rule(state=st.sampled_from(["failed", "failed", "cancelled"]), written=st.booleans())
    def end_badly(self, state, written):
        if written and self.going.read is not None:
            self.memory = self.going.read
        self.end(state)

    @precondition(lambda self: self.going is not None and self.going.read is not None)
    @rule(drifted=st.booleans())
    def end_well(self, drifted):
        self.memory = self.going.read
        if drifted and self.going.job == UPDATE:
            self.reports[self.going.run_id] = (DRIFT,)
        self.end("succeeded")

    def end(self, state):
        self.ended.insert(0, dataclasses.replace(self.going, state=state))
        self.going = None

    @invariant()
    def what_it_says_is_true(self):
        decision = self.decide()
        assert decision.reason
        if self.going is None and "is unchanged" in decision.reason:
            assert self.memory == self.content

    def settle(self):
        """Let everything go well from now on; returns the jobs that were started."""
        started = []
        for _ in range(12):
            if self.going is not None:
                if self.going.read is None:
                    self.read("")
                self.end_well(drifted=False)
            before = self.count
            self.tick(SETTLE, "")
            if self.count > before:
                started.append(self.going.job)
        return started

    def teardown(self):
        self.settle()
        if self.decide().reason.endswith("waiting for the next change"):
            self.content = "z"  # what failed too often, or was stopped, waits for a person or another change
            self.settle()
        assert self.memory == self.content
        assert self.settle() == [], "what is in memory is not run again"


World.TestCase.settings = hypothesis_settings(max_examples=300, stateful_step_count=40, deadline=None)
TestWorld = World.TestCase
