"""A line of the leaderboard is of one evidence run."""

import datetime

import pandas as pd

from zrag_core.evaluation.leaderboard_runs import of_newest_runs


def row(run, day, system="zrag", reader="none", split="test", n=4, evidence=None, **more):
    return {
        "run_id": run,
        "evidence_run_id": evidence or run,
        "evidence_at": datetime.datetime(2026, 1, day),
        "split": split,
        "question_type": "all",
        "system": system,
        "reader": reader,
        "budget": 64,
        "n_questions": n,
        "metric_version": "2",
        **more,
    }


def shown(*rows):
    frame, notes = of_newest_runs(pd.DataFrame(rows))
    return frame[["system", "reader", "run_id"]].agg(" ".join, axis=1).tolist(), notes


def test_answers_about_older_evidence_stand_beside_no_newer_figures():
    rows, notes = shown(row("r2", 2, n=1), row("r1", 1, reader="offline"), row("r1", 1, budget=128))
    assert rows == ["zrag none r2"]
    assert notes == [
        "left out, of an older evidence run: test, answers by offline: zrag (4 questions)",
        "left out, of an older evidence run: test: zrag (4 questions)",
    ]


def test_later_answers_belong_to_the_evidence_they_were_given_from():
    rows, notes = shown(row("r1", 1), row("a1", 1, reader="openai", evidence="r1"))
    assert rows == ["zrag none r1", "zrag openai a1"]
    assert notes == []


def test_systems_and_splits_of_an_older_run_are_marked_with_their_count():
    rows, notes = shown(row("r2", 2, n=1), row("r1", 1, "bm25"), row("r1", 1, split="unanswerable", n=9))
    assert len(rows) == 3
    assert notes == [
        "of an older evidence run: test: bm25 (4 questions)",
        "of an older evidence run: unanswerable: zrag (9 questions)",
    ]


def test_other_metric_versions_are_marked():
    _, notes = shown(row("r1", 1, "bm25", metric_version="1"), row("r1", 1), row("r1", 1, "lost", metric_version=None))
    assert notes == ["of metric version 1: test: bm25 (4 questions)"]


def test_an_empty_leaderboard_stays_empty():
    frame, notes = of_newest_runs(pd.DataFrame(columns=list(row("r1", 1))))
    assert frame.empty
    assert notes == []
