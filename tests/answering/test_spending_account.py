"""One spending limit for a run, over its assets and processes."""

import sqlite3
from contextlib import closing
from multiprocessing import get_context

import pytest

from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.spending_account import SpendingAccount
from zrag_core.errors import AnsweringError


@pytest.fixture
def file(tmp_path):
    return tmp_path / "자료" / "spending.sqlite"


def ledger(file, part, run="r1", limit=1.0):
    return SpendingLedger(limit, SpendingAccount(file, run, part))


def rows(file):
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT run_id, part, spent_usd, perhaps_usd FROM spending ORDER BY rowid").fetchall()


def test_the_parts_of_a_run_share_one_limit_and_runs_do_not(file):
    evidence, answers, other = ledger(file, "evidence"), ledger(file, "answers"), ledger(file, "answers", run="r2")
    assert evidence.try_reserve(0.75)
    assert not answers.try_reserve(0.5), "what is in flight elsewhere counts"
    evidence.settle(0.75, 0.25)
    assert answers.try_reserve(0.75)
    answers.lose(0.75)
    assert not evidence.try_reserve(0.125)
    assert other.try_reserve(1.0)
    assert rows(file) == [("r1", "evidence", 0.25, 0.0), ("r1", "answers", 0.0, 0.75), ("r2", "answers", 0.0, 1.0)]


def test_a_part_that_is_tried_again_has_no_new_limit(file):
    assert ledger(file, "answers").try_reserve(0.75)  # and is killed
    again = ledger(file, "answers")
    assert not again.try_reserve(0.5)
    assert again.try_reserve(0.25)


def test_a_request_of_an_earlier_run_counts_whatever_the_limit(file):
    answers = ledger(file, "answers")
    answers.commit(2.0)
    assert not ledger(file, "evidence").try_reserve(0.125)
    answers.settle(2.0, 0.5)
    assert ledger(file, "evidence").try_reserve(0.5)


def test_what_is_free_of_charge_leaves_no_file(file):
    free = ledger(file, "answers", limit=0.0)
    assert free.try_reserve(0.0)
    free.settle(0.0, 0.0)
    free.commit(0.0)
    free.lose(0.0)
    assert not file.exists()


def spend(file, part):
    own = ledger(file, part, limit=1.0)
    for _ in range(40):
        if own.try_reserve(0.0625):
            own.settle(0.0625, 0.0625)


def test_processes_at_the_same_time_never_pass_the_limit(file):
    context = get_context("fork")
    workers = [context.Process(target=spend, args=(file, f"part{n}")) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sum(row[2] for row in rows(file)) == 1.0


def test_a_damaged_file_is_one_line(file):
    file.parent.mkdir()
    file.write_bytes(b"no database" * 200)
    with pytest.raises(AnsweringError, match="what was spent cannot be kept: file is not a database"):
        ledger(file, "answers").try_reserve(0.5)
