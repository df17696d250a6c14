"""Answers that are shown while a model writes them: first words first, and else as if they had come at once."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from faulty_server import Reply, error_body, serving
from hypothesis import given
from hypothesis import strategies as st
from streaming_server import CUT, Listener, streaming

from zrag_core.answering.answer_stream import AnswerStopped, AnswerStream
from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.failures import Waits
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.local import LocalReader
from zrag_core.answering.prompts import REFUSALS
from zrag_core.answering.spending_account import SpendingAccount
from zrag_core.answering.thinking import settled_answer, strip_thinking
from zrag_core.answering.types import AnswerRequest
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings

KEY = "my-very-secret-key-0123"
ASKED = AnswerRequest("q1", "zrag", "Who wrote it?", "Ada Lovelace wrote it.")
WORDS = ["Ada", " Lov", "elace"]
COST = (50 * 2.5 + 3 * 10) / 1e6


def reader_for(server, *, cache=None, ledger=None, observe=None, **settings) -> OpenAIReader:
    values = {"base_url": server.url, "max_retries": 2, "timeout_s": 10.0} | settings
    return OpenAIReader(AnswerSettings(**values), KEY, cache=cache, ledger=ledger, observe=observe, waits=Waits(0.01))


def ask(reader, request=ASKED):
    heard = Listener()
    return reader.answer_streamed(request, AnswerStream(heard)), heard


def test_the_first_words_are_shown_before_the_last_ones_are_written():
    go_on = threading.Event()
    with streaming(lambda *_: ["Ada", go_on, " Lovelace"]) as server, ThreadPoolExecutor() as pool:
        heard = Listener()
        asked = pool.submit(reader_for(server).answer_streamed, ASKED, AnswerStream(heard))
        assert heard.first.wait(10), "shown while the server waits"
        assert (heard.pieces, asked.done()) == (["Ada"], False)
        go_on.set()
        assert asked.result(10).answer == heard.text == "Ada Lovelace"


def test_a_streamed_answer_is_what_an_answer_at_once_is(tmp_path):
    """Its row, its cost, its line in the cache and what observers are told."""
    told = []
    with streaming(lambda *_: WORDS) as server:
        rows, kept = [], []
        for name in ("streamed", "whole"):
            ledger = SpendingLedger(5.0, SpendingAccount(tmp_path / f"{name}.sqlite", "run", name))
            with AnswerCache(tmp_path / name) as cache:
                reader = reader_for(server, cache=cache, ledger=ledger, observe=lambda *call: told.append(call))
                answer = ask(reader)[0] if name == "streamed" else reader.answer([ASKED])[0]
                kept.append(replace(cache.get(answer.prompt_hash), model=""))
            rows.append(replace(answer, latency_ms=0.0))
            assert (ledger.spent_usd, ledger.unconfirmed_usd) == (pytest.approx(COST), 0.0)
            (row,) = sqlite3.connect(tmp_path / f"{name}.sqlite").execute("SELECT spent_usd, perhaps_usd FROM spending")
            assert row == (pytest.approx(COST), 0.0)
    assert rows[0] == rows[1]
    assert rows[0].answer == "Ada Lovelace"
    assert kept[0] == kept[1]
    (prompt, done), (as_prompt, as_done) = told
    assert (prompt, prompt.labels, done.text) == (as_prompt, as_prompt.labels, as_done.text)
    streamed, whole = server.bodies
    assert (streamed.pop("stream"), streamed.pop("stream_options")) == (True, {"include_usage": True})
    assert streamed == whole


def test_money_is_reserved_while_the_answer_is_written(tmp_path):
    go_on, path = threading.Event(), tmp_path / "s.sqlite"
    ledger = SpendingLedger(5.0, SpendingAccount(path, "run", "serve"))
    with streaming(lambda *_: ["Ada", go_on]) as server, ThreadPoolExecutor() as pool:
        heard = Listener()
        asked = pool.submit(reader_for(server, ledger=ledger).answer_streamed, ASKED, AnswerStream(heard))
        assert heard.first.wait(10)
        ((spent, perhaps),) = sqlite3.connect(path).execute("SELECT spent_usd, perhaps_usd FROM spending")
        assert (spent, perhaps > COST) == (0.0, True)
        go_on.set()
        asked.result(10)


def test_without_a_count_of_tokens_the_worst_case_is_charged():
    ledger = SpendingLedger(5.0)
    with streaming(lambda *_: WORDS, usage=None) as server:
        answer, _ = ask(reader_for(server, ledger=ledger))
    assert answer.error is None
    assert answer.cost_usd == ledger.spent_usd > COST
    assert ledger.unconfirmed_usd == 0.0


def test_the_spending_limit_holds():
    with streaming(lambda *_: WORDS) as server:
        answer, heard = ask(reader_for(server, max_cost_usd=0.00001))
    assert (answer.error, heard.pieces, server.bodies) == ("spending limit", [], [])


def test_a_cached_answer_is_shown_and_nothing_is_sent(tmp_path):
    with streaming(lambda *_: ["<think>So.</think>", *WORDS]) as server, AnswerCache(tmp_path / "c") as cache:
        fresh, _ = ask(reader_for(server, cache=cache))
        again, heard = ask(reader_for(server, cache=cache))
        (at_once,) = reader_for(server, cache=cache).answer([ASKED])
    assert (again.cached, again.cost_usd, again.answer, heard.text) == (True, 0.0, "Ada Lovelace", "Ada Lovelace")
    assert (fresh.cached, at_once) == (False, again)
    assert len(server.bodies) == 1


# --- failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "said", "announced"),
    [
        (CUT, "connection failed", True),
        (CUT, "it ends before the answer does", False),
        ({"error": {"message": f"overloaded {KEY}"}}, "the server reports an error: overloaded [key]", True),
        ({"choices": 3}, "not a piece of a chat completion", True),
    ],
    ids=["cut", "closed", "error", "nonsense"],
)
def test_an_answer_that_breaks_off_is_an_error_and_is_not_kept(broken, said, announced, tmp_path):
    ledger, told = SpendingLedger(5.0), []

    def behave(_prompt, before):
        return WORDS if before else ["Ada", " Lov", broken]

    with streaming(behave, announced=announced) as server, AnswerCache(tmp_path / "c") as cache:
        reader = reader_for(server, cache=cache, ledger=ledger, observe=lambda *call: told.append(call[1].error))
        answer, heard = ask(reader)
        assert len(server.bodies) == 1, "what was shown is not begun again"
        assert (answer.answer, len(cache)) == ("", 0)
        assert answer.error.startswith("the answer broke off: ")
        assert said in answer.error
        assert KEY not in answer.error
        assert told == [answer.error]
        assert "Ada Lovelace".startswith(heard.text)
        assert (ledger.spent_usd, ledger.unconfirmed_usd > 0) == (0.0, True), "it may be billed, and is counted"
        again, heard = ask(reader)
        assert (again.answer, again.error, heard.text) == ("Ada Lovelace", None, "Ada Lovelace")


@pytest.mark.parametrize(
    "failure",
    [(500, b"oops"), (429, error_body("slow down")), [CUT], ["<think>So", CUT], [{"error": {"message": "busy"}}]],
    ids=["500", "429", "cut", "cut-in-thought", "error"],
)
def test_what_fails_before_the_first_word_is_retried(failure):
    with streaming(lambda _, before: WORDS if before else failure) as server:
        answer, heard = ask(reader_for(server))
    assert (answer.answer, heard.text, len(server.bodies)) == ("Ada Lovelace", "Ada Lovelace", 2)


def test_a_wrong_key_is_an_error_of_the_run_without_the_key():
    refused = (401, error_body(f"Incorrect API key provided: {KEY}"))
    with streaming(lambda *_: refused) as server, pytest.raises(AnsweringError, match="API key") as raised:
        ask(reader_for(server))
    assert KEY not in str(raised.value)


def test_an_answer_that_takes_too_long_breaks_off():
    with streaming(lambda *_: ["Ada", threading.Event()]) as server:
        began = time.monotonic()
        answer, heard = ask(reader_for(server, timeout_s=0.5))
        assert time.monotonic() - began < 5
        assert server.left.wait(5), "the connection is closed"
    assert (answer.error, heard.text) == ("the answer broke off: timed out", "Ada")


def test_a_server_that_does_not_stream_answers_all_the_same(tmp_path):
    with serving(lambda *_: Reply(text="Ada Lovelace")) as server:
        answer, heard = ask(reader_for(server))
        assert (answer.answer, answer.cost_usd, heard.text) == ("Ada Lovelace", pytest.approx(COST), "Ada Lovelace")
    refusal = (400, error_body("unknown field: stream_options"))

    def behave(_prompt, before):
        return WORDS if before else refusal

    ledger = SpendingLedger(5.0)
    with streaming(behave) as server:
        answer, heard = ask(reader_for(server, max_retries=0, ledger=ledger))
    assert (answer.answer, heard.pieces, len(server.bodies)) == ("Ada Lovelace", ["Ada Lovelace"], 2)
    assert "stream" not in server.bodies[1]
    assert ledger.unconfirmed_usd == 0.0
    with streaming(lambda *_: (400, error_body("too long"))) as server:
        answer, _ = ask(reader_for(server))
    assert (answer.error, len(server.bodies)) == ("HTTP 400: too long", 1)


# --- stopping ----------------------------------------------------------------------------------------


def test_who_stops_an_answer_ends_the_request_at_once(tmp_path):
    ledger = SpendingLedger(5.0)
    with (
        streaming(lambda *_: ["Ada", threading.Event()]) as server,
        AnswerCache(tmp_path / "c") as cache,
        ThreadPoolExecutor() as pool,
    ):
        reader = reader_for(server, cache=cache, ledger=ledger)
        heard = Listener()
        stream = AnswerStream(heard)
        asked = pool.submit(reader.answer_streamed, ASKED, stream)
        assert heard.first.wait(10)
        stream.stop()
        with pytest.raises(AnswerStopped):
            asked.result(5)
        assert server.left.wait(5), "the server may stop generating"
        assert len(cache) == 0
    assert (ledger.spent_usd, ledger.unconfirmed_usd > 0) == (0.0, True)
    with streaming(lambda *_: WORDS) as server:
        with pytest.raises(AnswerStopped):  # stopped beforehand
            reader_for(server).answer_streamed(ASKED, stream)
        assert server.bodies == []
    stream.stop()  # and once more does nothing


def test_a_listener_that_fails_is_heard_of_and_leaves_no_request_behind():
    def show(piece):
        raise BrokenPipeError

    ledger = SpendingLedger(5.0)
    with streaming(lambda *_: ["Ada", threading.Event()]) as server:
        with pytest.raises(BrokenPipeError):
            reader_for(server, ledger=ledger).answer_streamed(ASKED, AnswerStream(show))
        assert server.left.wait(5)
    assert ledger.unconfirmed_usd > 0


# --- what is shown -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["<think>The evidence\nnames <her>.</think>\n\nAda [1] < 2", "[THINK]So.[/THINK]Ada [1] < 2"]
)
@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_reasoning_is_never_shown_however_it_is_cut(text, size):
    with streaming(lambda *_: [text[at : at + size] for at in range(0, len(text), size)]) as server:
        answer, heard = ask(reader_for(server))
    assert (answer.answer, heard.text) == ("Ada [1] < 2", "Ada [1] < 2")


def test_reasoning_without_an_answer_is_told_as_ever(tmp_path):
    with streaming(lambda *_: ["<think>The evi", "dence"], finish="length") as server:
        answer, heard = ask(reader_for(server))
    assert heard.pieces == []
    assert answer.error.startswith("the model returned nothing but its reasoning within its token limit")
    with streaming(lambda *_: ["Ada", " Love"], finish="length") as server, AnswerCache(tmp_path / "c") as cache:
        answer, heard = ask(reader_for(server, cache=cache))
        assert (answer.answer, answer.error, heard.text) == ("Ada Love", None, "Ada Love")
        assert cache.get(answer.prompt_hash).finish_reason == "length"


def test_reasoning_that_the_prompt_has_opened_is_shown_once_at_most():
    """Nobody can tell it from an answer before it ends."""
    with streaming(lambda *_: ["The evidence ", "names her.", "</think>", "Ada"]) as server:
        reader = reader_for(server)
        assert ask(reader)[0].answer == "Ada"
        answer, heard = ask(reader)
    assert (answer.answer, heard.text) == ("Ada", "Ada")


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", "a", " ", "\n", "<", "[", "</", "think>"]))
)
def test_what_is_settled_stays(parts):
    """Unless reasoning ends that never began."""
    text = "".join(parts)
    steps = [settled_answer(text[:at]) for at in range(len(text) + 1)]
    if "</think>" not in text:
        assert all(strip_thinking(text).startswith(step) for step in steps)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_local_readers_quotation_marks_are_never_shown(size):
    text = ' "Ada Lovelace" because\nshe did'
    settings = AnswerSettings(reader="local", base_url="http://127.0.0.1:9/v1")
    with streaming(lambda *_: [text[at : at + size] for at in range(0, len(text), size)]) as server:
        reader = LocalReader(settings.model_copy(update={"base_url": server.url}))
        answer, heard = ask(reader)
        assert (answer.reader, answer.answer, heard.text) == ("local", "Ada Lovelace", "Ada Lovelace")
        refused, heard = ask(reader, replace(ASKED, evidence=" "))
        assert (refused.answer, heard.text) == (REFUSALS["en"], REFUSALS["en"])
        assert len(server.bodies) == 1
