"""The answer cache: exactly once, even across SIGKILL; honest about files it cannot use."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_server import Reply, serving

from zrag_core.answering.cache import AnswerCache, CachedAnswer, GroupCommit
from zrag_core.errors import AnsweringError

KILL_TARGET = Path(__file__).with_name("kill_target.py")
PAID = CachedAnswer("서울", 10, 2, "gpt-4o", 0.001)


def test_round_trip_with_unicode(tmp_path):
    path = tmp_path / "deep" / "답.sqlite"
    with AnswerCache(path) as cache:
        assert cache.get("a") is None
        cache.put("a", PAID)
    with AnswerCache(path) as cache:
        assert cache.get("a") == PAID
        assert len(cache) == 1


def test_the_first_answer_stays(tmp_path):
    with AnswerCache(tmp_path / "c") as cache:
        cache.put("a", PAID)
        cache.put("a", CachedAnswer("부산", 1, 1, "gpt-4o", 0.0))
        assert cache.get("a") == PAID


def test_a_forgotten_answer_makes_room_for_another(tmp_path):
    with AnswerCache(tmp_path / "c") as cache:
        cache.put("a", PAID)
        cache.put("b", PAID)
        cache.forget("a")
        cache.forget("never there")
        assert cache.get("a") is None
        assert len(cache) == 1
        cache.put("a", CachedAnswer("부산", 1, 1, "gpt-4o", 0.0))
        assert cache.get("a").answer == "부산"


def test_an_answer_is_visible_to_another_connection_at_once(tmp_path):
    with AnswerCache(tmp_path / "c") as writer, AnswerCache(tmp_path / "c") as reader:
        writer.put("a", PAID)
        assert reader.get("a") == PAID


def test_many_threads_may_write(tmp_path):
    with AnswerCache(tmp_path / "c") as cache:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: cache.put(str(i % 50), PAID), range(200)))
        assert len(cache) == 50


def test_answers_are_stored_together_or_not_at_all(tmp_path):
    with AnswerCache(tmp_path / "c") as cache:
        cache.put_all([("a", PAID), ("b", PAID)])
        broken = CachedAnswer("x", 1, 1, None, 0.0)
        with pytest.raises(AnsweringError, match="cannot be used"):
            cache.put_all([("c", PAID), ("d", broken)])
        assert [cache.get(key) for key in "abcd"] == [PAID, PAID, None, None]
        cache.put("c", PAID)
        assert len(cache) == 3


def test_answers_that_arrive_during_a_commit_share_the_next_one(tmp_path, monkeypatch):
    commits = []

    def put_all(self, answers):
        commits.append([key for key, _ in answers])
        time.sleep(0.02)

    async def run(cache):
        group = GroupCommit(cache)
        await asyncio.gather(*(group.put(str(i), PAID) for i in range(20)))

    monkeypatch.setattr(AnswerCache, "put_all", put_all)
    with AnswerCache(tmp_path / "c") as cache:
        asyncio.run(run(cache))
    assert sorted(key for keys in commits for key in keys) == sorted(map(str, range(20)))
    assert len(commits) <= 3


def test_put_returns_when_the_answer_is_on_disk(tmp_path):
    async def run(cache, other):
        group = GroupCommit(cache)

        async def put(i):
            await group.put(str(i), PAID)
            assert other.get(str(i)) == PAID

        await asyncio.gather(*(put(i) for i in range(50)))

    with AnswerCache(tmp_path / "c") as cache, AnswerCache(tmp_path / "c") as other:
        asyncio.run(run(cache, other))


def test_a_file_of_another_kind_is_one_clear_line_and_stays_as_it_is(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, not a database\n" * 100)
    before = path.read_bytes()
    with pytest.raises(AnsweringError, match=r"notes\.txt.*move a damaged file away"):
        AnswerCache(path)
    assert path.read_bytes() == before


def test_a_cache_of_the_first_schema_keeps_its_answers(tmp_path):
    path = tmp_path / "c"
    with sqlite3.connect(path) as former:
        former.execute(
            "CREATE TABLE answers (prompt_hash TEXT PRIMARY KEY, answer TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, "
            "completion_tokens INTEGER NOT NULL, model TEXT NOT NULL, cost_usd REAL NOT NULL, created_at TEXT NOT NULL"
            ") STRICT"
        )
        former.execute("INSERT INTO answers VALUES ('a', '서울', 10, 2, 'gpt-4o', 0.001, '')")
        former.execute("PRAGMA user_version = 1")
    former.close()
    for _ in range(2):
        with AnswerCache(path) as cache:
            assert cache.get("a") == PAID
            cache.put("b", replace(PAID, finish_reason="length"))
            assert cache.get("b").finish_reason == "length"


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "c"
    with AnswerCache(path) as cache:
        cache._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(AnsweringError, match="schema 99"):
        AnswerCache(path)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AnsweringError, match="write permission"):
        AnswerCache(tmp_path / "file" / "c")


def test_a_killed_run_resumes_and_pays_no_received_answer_again(tmp_path):
    n, concurrency = 500, 16
    path = tmp_path / "answers.sqlite"
    with serving(lambda *_: Reply(delay_s=0.02)) as server:
        command = [sys.executable, str(KILL_TARGET), server.url, str(path), str(n), str(concurrency)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + 90
            while server.answered < n // 2 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            _, errors = process.communicate(timeout=10)
        assert n // 2 <= server.answered < n, errors
        # What was on its way when the client died is served to nobody; then the counts are final.
        while server.in_flight and time.monotonic() < deadline:
            time.sleep(0.01)
        sent_first = sum(server.seen.values())
        with AnswerCache(path) as cache:
            received = len(cache)
        assert n // 2 - concurrency <= received < n
        assert sent_first - received <= concurrency

        second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        cached, answered = map(int, second.stdout.split())
        sent_twice = [prompt for prompt, count in server.seen.items() if count > 1]
        assert (cached, answered) == (received, n)
        assert sum(server.seen.values()) == sent_first + n - received
        assert len(sent_twice) <= concurrency
        assert max(server.seen.values()) <= 2
        assert len(server.seen) == n
        with AnswerCache(path) as cache:
            assert len(cache) == n
