"""The soak's verdict finds what it is there to find."""

import dataclasses

import pytest
from reckoning import Change, Run, reckon

CHANGES = [Change(10, "b", "b"), Change(20, "c", "c"), Change(100, "a", "back to a")]


def run(number, started, ended, read, *, job="update_memory", succeeded=True):
    return Run(f"run{number:05d}", job, succeeded, started, ended, read, f"key {number}")


GOOD = [run(1, 30, 50, "c"), run(2, 110, 140, "a")]


def test_changes_that_arrived_have_their_delay_and_later_states_bring_earlier_ones():
    reckoning = reckon("a", CHANGES, GOOD)
    assert reckoning.problems == ()
    assert reckoning.delays == (40, 30, 40)
    assert reckoning.median_delay == 40


def test_a_failed_run_and_a_retraining_are_no_duplicates():
    runs = [run(0, 22, 25, "c", succeeded=False), GOOD[0], run(9, 60, 90, "c", job="full"), GOOD[1]]
    assert reckon("a", CHANGES, runs).problems == ()


def test_changed_and_back_at_once_needs_no_run():
    assert reckon("a", [Change(10, "b", "b"), Change(11, "a", "back")], []).delays == (1, 0)
    assert reckon("a", [Change(10, "b", "b")], []).problems == ("lost: change 1 (b) never arrived in memory",)


def test_a_run_that_went_on_while_the_corpus_returned_must_be_made_good():
    changes = [Change(10, "b", "b"), Change(25, "a", "back")]
    runs = [run(1, 20, 40, "b")]
    assert reckon("a", changes, runs).problems == ("lost: the last state of the corpus is not what was read last",)
    assert reckon("a", changes, [*runs, run(2, 50, 60, "a")]).problems == ()


@pytest.mark.parametrize(
    ("runs", "problem"),
    [
        (GOOD[:1], "lost: change 3 (back to a)"),
        ([GOOD[0], dataclasses.replace(GOOD[1], succeeded=False)], "lost: change 3"),
        ([GOOD[0], dataclasses.replace(GOOD[1], read="c")], "lost: change 3"),
        ([*GOOD, dataclasses.replace(GOOD[1], started=150, ended=160)], "two runs have the key key 2"),
        ([*GOOD, run(3, 150, 160, "a")], "brought the same state"),
        ([GOOD[0], run(3, 45, 60, "c", job="full"), GOOD[1]], "ran at the same time"),
    ],
)
def test_what_is_wrong_is_named(runs, problem):
    problems = reckon("a", CHANGES, runs).problems
    assert any(problem in text for text in problems), problems
