"""The Batch API: every answer once, half the price, and nothing lost however the run or the server fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_server import serving_batches

from zrag_core.answering import batch_files
from zrag_core.answering.batch_files import output_lines, split
from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.failures import MalformedReplyError, Waits
from zrag_core.answering.types import AnswerRequest
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings

KEY = "my-very-secret-key-0123"
KILL_TARGET = Path(__file__).with_name("batch_kill_target.py")
EACH = 0.5 * (50 * 2.5 + 3 * 10) / 1e6


def ask(n: int, evidence: str = "증거") -> list[AnswerRequest]:
    return [AnswerRequest(f"q{i}", "bm25", f"Question number {i}?", evidence) for i in range(n)]


def number(body) -> str:
    return body["messages"][-1]["content"].split("Question number ")[1].split("?")[0]


@pytest.fixture
def cache(tmp_path):
    with AnswerCache(tmp_path / "답.sqlite") as opened:
        yield opened


def records(cache) -> list[Path]:
    return sorted(cache.path.with_name(f"{cache.path.stem}_batches").glob("*"))


def reader_for(server, cache, **settings) -> OpenAIReader:
    values = {"base_url": server.url, "batch": True, "max_retries": 3, "timeout_s": 5.0} | settings
    return OpenAIReader(AnswerSettings(**values), KEY, cache=cache, waits=Waits(0.01, 0.01))


def test_answers_are_matched_by_id_at_half_the_price_and_the_record_is_removed(cache):
    seen = []
    # A line separator of Unicode's is no end of a line in JSONL.
    with serving_batches(lambda body: f"답\u2028 {number(body)}") as server:
        reader = reader_for(server, cache)
        estimate = reader.estimate(ask(20))
        answers = reader.answer([*ask(20), *ask(3)], lambda *state: seen.append(state))
        assert server.calls == {"upload": 1, "create": 1, "look": 2, "download": 1}
        bodies = server.bodies
    # The server writes its answers in the opposite order.
    assert [a.answer for a in answers] == [f"답\u2028 {i}" for i in (*range(20), *range(3))]
    assert [a.cost_usd for a in answers] == pytest.approx([EACH] * 20 + [0] * 3)
    assert [a.cached for a in answers] == [False] * 20 + [True] * 3
    assert {a.error for a in answers} == {None}
    assert reader.ledger.spent_usd == pytest.approx(20 * EACH)
    assert (bodies[0]["model"], bodies[0]["temperature"], bodies[0]["max_tokens"]) == ("gpt-4o", 0.0, 64)
    assert seen[-1][:2] == (23, 23)
    assert any(done == 20 for done, _, _ in seen[:-1]), "answers under way are counted"
    assert records(cache) == []
    online = OpenAIReader(AnswerSettings(base_url="http://127.0.0.1:9/v1"), KEY).estimate(ask(20))
    assert estimate.cost_usd == pytest.approx(online.cost_usd / 2)
    assert "50%" in estimate.note


def test_batches_and_single_requests_share_their_answers(cache):
    with serving_batches() as server:
        reader_for(server, cache).answer(ask(3))
        again = reader_for(server, cache, batch=False, max_cost_usd=0.0).answer(ask(3))
        assert reader_for(server, cache, max_cost_usd=0.0).answer(ask(3))[0].cached
        assert sum(server.calls.values()) == 5
    assert {(a.cached, a.error, a.answer) for a in again} == {(True, None, "an answer")}


def test_requests_that_fail_alone_say_why_and_are_asked_again_next_time(cache):
    def answer(body):
        if number(body) == "1":
            raise ValueError(f"too long for {KEY}")
        return "fine"

    with serving_batches(answer) as server:
        answers = reader_for(server, cache).answer(ask(3))
        assert [a.error for a in answers] == [None, "HTTP 400: too long for [key]", None]
        assert answers[1].cost_usd == 0.0
        server.answer = lambda body: "fine now"
        again = reader_for(server, cache).answer(ask(3))
        assert len(server.batches) == 2
    assert [(a.answer, a.cached) for a in again] == [("fine", True), ("fine now", False), ("fine", True)]
    assert set(server.generated.values()) == {1}


@pytest.mark.parametrize("status", ["expired", "cancelled", "completed"])
def test_a_batch_that_ends_early_keeps_what_it_has(cache, status):
    with serving_batches(status=status, leave_out=4) as server:
        reader = reader_for(server, cache)
        answers = reader.answer(ask(6))
    assert [a.error is None for a in answers] == [True] * 4 + [False] * 2
    why = {"expired": "could not be executed", "cancelled": "was cancelled", "completed": "no answer in the output"}
    assert why[status] in answers[5].error
    assert len(cache) == 4
    assert records(cache) == []
    assert reader.ledger.spent_usd == pytest.approx(4 * EACH)
    # Where the server claims to have done everything, the missing answers may have been charged for.
    assert (reader.ledger.unconfirmed_usd > 0) == (status == "completed")


def test_a_refused_batch_is_one_clear_line_and_costs_nothing(cache):
    with serving_batches(refusal=f"Enqueued token limit\nreached for {KEY}") as server:
        reader = reader_for(server, cache)
        with pytest.raises(AnsweringError, match=r"refused the batch: Enqueued token limit reached for \[key\]"):
            reader.answer(ask(3))
    assert records(cache) == []
    assert (reader.ledger.spent_usd, reader.ledger.unconfirmed_usd) == (0.0, 0.0)


@pytest.mark.parametrize("call", ["upload", "create", "look", "download"])
@pytest.mark.parametrize("failure", [429, 500, 0])
def test_passing_failures_are_retried_and_nothing_is_submitted_twice(cache, call, failure):
    with serving_batches(first={call: [failure, failure]}) as server:
        answers = reader_for(server, cache).answer(ask(3))
        assert len(server.batches) == 1
    assert {a.error for a in answers} == {None}
    assert set(server.generated.values()) == {1}


@pytest.mark.parametrize("call", ["upload", "create", "look", "download"])
def test_a_reply_that_is_lost_after_the_deed_makes_no_second_batch(cache, call):
    with serving_batches(after_doing={call}) as server:
        answers = reader_for(server, cache).answer(ask(3))
        assert len(server.batches) == 1
    assert {a.error for a in answers} == {None}


def test_a_run_that_never_heard_of_its_batch_leaves_it_to_the_next(cache):
    with serving_batches(after_doing={"create"}, first={"list": [503] * 3}) as server:
        with pytest.raises(AnsweringError, match="HTTP 503"):
            reader_for(server, cache).answer(ask(3))
        assert json.loads(records(cache)[0].read_text())["batch_id"] is None
        answers = reader_for(server, cache).answer(ask(3))
        assert len(server.batches) == 1
    assert {(a.error, a.cached) for a in answers} == {(None, False)}
    assert records(cache) == []


def test_a_run_killed_before_the_server_had_its_batch_submits_it_anew(cache):
    with serving_batches(first={"create": [503] * 4}) as server:
        with pytest.raises(AnsweringError, match="HTTP 503"):
            reader_for(server, cache).answer(ask(3))
        assert len(records(cache)) == 1
        answers = reader_for(server, cache).answer(ask(3))
        assert len(server.batches) == 1
    assert {a.error for a in answers} == {None}
    assert records(cache) == []


@pytest.mark.parametrize("mangle", [lambda content: content[:-40], lambda _: b"<html>proxy</html>", lambda _: b"[]\n"])
def test_a_mangled_download_is_fetched_again(cache, mangle):
    with serving_batches(mangle=mangle) as server:
        answers = reader_for(server, cache).answer(ask(3))
        assert server.calls["download"] == 2
    assert {a.error for a in answers} == {None}
    assert set(server.generated.values()) == {1}


def test_a_server_that_stays_away_loses_nothing_and_the_next_run_collects(cache):
    with serving_batches(first={"look": [503] * 4}) as server:
        first = reader_for(server, cache)
        with pytest.raises(AnsweringError, match=r"HTTP 503.*run again: 1 submitted batches go on there"):
            first.answer(ask(5))
        assert first.ledger.unconfirmed_usd > 0
        assert len(records(cache)) == 1
        # Other questions are no reason to wait for it; some of its own are, and all its answers are kept.
        assert reader_for(server, cache).answer(ask(1, "other"))[0].error is None
        assert len(records(cache)) == 1
        second = reader_for(server, cache)
        answers = second.answer([*ask(2), AnswerRequest("new", "s", "Question number 99?", "")])
        assert [a.cached for a in answers] == [False] * 3
        assert second.ledger.spent_usd == pytest.approx(6 * EACH)
        assert len(cache) == 7
        assert records(cache) == []
        assert len(server.batches) == 3
    assert set(server.generated.values()) == {1}


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("call", ["upload", "create"])
def test_a_server_without_batches_is_one_clear_line(cache, status, call):
    with serving_batches(first={call: [status] * 9}) as server:
        with pytest.raises(AnsweringError, match=r"no Batch API.*set answers\.batch to false"):
            reader_for(server, cache).answer(ask(3))
        assert server.calls[call] == 1


def test_a_batch_that_is_gone_is_not_silently_paid_again(cache):
    with serving_batches(first={"look": [503] * 4}) as server:
        with pytest.raises(AnsweringError, match="503"):
            reader_for(server, cache).answer(ask(2))
        server.batches.clear()
        with pytest.raises(AnsweringError, match=r"no batch batch-0 for this key.*remove .*\.json"):
            reader_for(server, cache).answer(ask(2))
        assert server.calls["create"] == 1


def test_a_record_that_cannot_be_read_is_one_clear_line(cache):
    folder = cache.path.with_name(f"{cache.path.stem}_batches")
    folder.mkdir()
    (folder / "x.json").write_text('{"name": "x"}')
    with serving_batches() as server, pytest.raises(AnsweringError, match=r"x\.json.*cannot be read"):
        reader_for(server, cache).answer(ask(1))


def test_batches_need_the_cache():
    with pytest.raises(AnsweringError, match=r"answers\.batch.*cache"):
        OpenAIReader(AnswerSettings(batch=True), KEY)


def test_the_spending_limit_holds_and_the_slack_of_one_batch_pays_for_the_next(cache):
    with serving_batches() as server:
        reader = reader_for(server, cache, max_cost_usd=0.01)
        answers = reader.answer(ask(200))
        paid = [a for a in answers if a.error is None]
        assert 1 < len(server.batches) <= 10
    assert {a.error for a in answers} == {None, "spending limit"}
    assert reader.ledger.spent_usd == pytest.approx(len(paid) * EACH)
    assert 0.4 * 0.01 < reader.ledger.spent_usd <= 0.01
    with AnswerCache(cache.path) as same:
        assert len(same) == len(paid) == sum(server.generated.values())


def test_large_runs_are_divided(cache, monkeypatch):
    monkeypatch.setattr(batch_files, "MAX_REQUESTS", 4)
    with serving_batches() as server:
        assert {a.error for a in reader_for(server, cache).answer(ask(10))} == {None}
        assert [batch["request_counts"]["total"] for batch in server.batches.values()] == [4, 4, 2]
    assert records(cache) == []


def test_parts_keep_to_both_limits(monkeypatch):
    lines = {str(i): b"x" * (i % 5 + 1) for i in range(50)}
    monkeypatch.setattr(batch_files, "MAX_BYTES", 9)
    monkeypatch.setattr(batch_files, "MAX_REQUESTS", 3)
    parts = list(split(lines))
    assert {key: line for part in parts for key, line in part.items()} == lines
    assert all(len(part) <= 3 and sum(map(len, part.values())) <= 9 for part in parts)
    assert list(split({})) == []


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"response": null}', b'{"custom_id": "a", "response": 3}'])
def test_what_is_no_output_is_refused(content):
    with pytest.raises(MalformedReplyError):
        output_lines(content)


def test_an_error_without_words_is_still_one():
    (line,) = output_lines(json.dumps({"custom_id": "a", "response": {"status_code": 500, "body": None}}).encode())
    assert (line.body, line.error) == (None, "HTTP 500: no reason given")


@pytest.mark.parametrize("killed_in", ["create", "look", "download"])
def test_a_killed_run_collects_what_it_submitted(tmp_path, killed_in):
    path = tmp_path / "answers.sqlite"
    with serving_batches(looks=6) as server:
        command = [sys.executable, str(KILL_TARGET), server.url, str(path), "40"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + 60
            while server.calls[killed_in] < 1 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            _, errors = process.communicate(timeout=10)
        assert len(server.batches) == 1, errors
        second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert second.stdout.split()[0] == "40"
        assert len(server.batches) == 1
        assert set(server.generated.values()) == {1}
    with AnswerCache(path) as cache:
        assert len(cache) == 40
        assert records(cache) == []
