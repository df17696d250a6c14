"""The client against a server that fails in the ways real ones do."""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import threading
import time
import traceback

import pytest
from faulty_server import Reply, error_body, serving

from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.choice import choose_reader
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.failures import Waits
from zrag_core.answering.types import AnswerRequest
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings

KEY = "my-very-secret-key-0123"
OK = Reply(text="Ada Lovelace")


def ask(n: int, evidence: str = "Ada Lovelace wrote it.") -> list[AnswerRequest]:
    return [AnswerRequest(f"q{i}", "bm25", f"Question number {i}?", evidence) for i in range(n)]


def reader_for(server, cache=None, **settings) -> OpenAIReader:
    values = {"base_url": server.url, "max_retries": 3, "timeout_s": 10.0, "concurrency": 4} | settings
    return OpenAIReader(AnswerSettings(**values), KEY, cache=cache, waits=Waits(0.01))


def first(reply: Reply):
    """Fail with `reply` once for each prompt, then answer."""
    return lambda _prompt, before: reply if before == 0 else OK


def test_answers_come_back_in_order_with_tokens_cost_and_hash():
    def echo(prompt, _before):
        return Reply(text=prompt.split("Question number ")[1].split("?")[0])

    seen = []
    with serving(echo) as server:
        answers = reader_for(server).answer(ask(20), lambda *state: seen.append(state))
    assert [a.answer for a in answers] == [str(i) for i in range(20)]
    assert [a.question_id for a in answers] == [f"q{i}" for i in range(20)]
    assert {(a.reader, a.model, a.system, a.cached, a.error) for a in answers} == {
        ("openai", "gpt-4o", "bm25", False, None)
    }
    assert all(a.cost_usd == pytest.approx((50 * 2.5 + 3 * 10) / 1e6) for a in answers)
    assert len({a.prompt_hash for a in answers}) == 20
    assert [done for done, _, _ in seen] == list(range(1, 21))
    assert seen[-1][1] == 20
    assert seen[-1][2] == pytest.approx(sum(a.cost_usd for a in answers))
    assert server.bodies[0]["temperature"] == 0.0
    assert server.bodies[0]["max_tokens"] == 64
    assert server.keys == {f"Bearer {KEY}"}


def completion(content, finish_reason="stop") -> Reply:
    message = {"role": "assistant", "content": content}
    body = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}
    return Reply(body=json.dumps(body).encode())


@pytest.mark.parametrize(
    "written",
    [
        "<think>The evidence\nnames her.</think>\n\nAda Lovelace",
        "The evidence names her.</think> Ada Lovelace",
        "<Thinking>So.</Thinking>Ada Lovelace",
        "[THINK]So.[/THINK]Ada Lovelace",
        [{"type": "text", "text": "Ada "}, {"type": "text", "text": "Lovelace"}],
    ],
)
def test_reasoning_is_no_part_of_the_answer(written):
    with serving(lambda *_: completion(written)) as server:
        (answer,) = reader_for(server).answer(ask(1))
    assert (answer.answer, answer.error) == ("Ada Lovelace", None)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (completion("", "length"), "no text within its token limit (finish_reason: length)"),
        (completion("<think>The evidence", "length"), "nothing but its reasoning within its token limit"),
        (completion("<think>So.</think>"), "nothing but its reasoning"),
        (completion(None, "content_filter"), "no text (finish_reason: content_filter)"),
        (completion(""), "no text"),
    ],
)
def test_why_there_is_no_text_is_told_also_from_the_cache(reply, told, tmp_path):
    with serving(lambda *_: reply) as server, AnswerCache(tmp_path / "c") as cache:
        (fresh,), (again,) = (reader_for(server, cache).answer(ask(1)) for _ in range(2))
    assert (fresh.cached, again.cached) == (False, True)
    assert fresh.error == again.error
    assert fresh.error.startswith(f"the model returned {told}")
    assert fresh.answer == ""


def test_an_error_with_a_status_of_success_is_told():
    with serving(lambda *_: Reply(body=error_body("overloaded"))) as server:
        (answer,) = reader_for(server, max_retries=1).answer(ask(1))
    assert answer.error == "the server reports an error: overloaded (2 attempts)"


@pytest.mark.parametrize(
    "failure",
    [
        Reply(status=429, body=error_body("slow down")),
        Reply(status=500, body=b"oops"),
        Reply(status=502, body=b"<html>bad gateway</html>"),
        Reply(status=503, body=error_body("overloaded")),
        Reply(status=504, body=b""),
        Reply(body=b'{"choices": [{"mess'),
        Reply(body=b'{"choices": null}'),
        Reply(body=b"[]"),
        Reply(body=b"<html>proxy</html>", headers={"Content-Type": "text/html"}),
        Reply(drop=True),
    ],
    ids=["429", "500", "502", "503", "504", "half-json", "no-choices", "list", "html", "dropped"],
)
def test_passing_failures_are_retried(failure):
    with serving(first(failure)) as server:
        answers = reader_for(server).answer(ask(3))
    assert [a.answer for a in answers] == ["Ada Lovelace"] * 3
    assert set(server.seen.values()) == {2}


@pytest.mark.parametrize("status", [400, 422])
def test_a_bad_request_is_not_retried_and_fails_alone(status):
    def behave(prompt, _before):
        return Reply(status=status, body=error_body(f"too long {KEY}")) if "number 1?" in prompt else OK

    with serving(behave) as server:
        answers = reader_for(server).answer(ask(3))
    assert max(server.seen.values()) == 1
    assert [a.error is None for a in answers] == [True, False, True]
    assert answers[1].error == f"HTTP {status}: too long [key]"
    assert answers[1].answer == ""


def test_a_request_that_times_out_is_retried():
    with serving(first(Reply(delay_s=1.0))) as server:
        began = time.monotonic()
        answers = reader_for(server, timeout_s=0.3).answer(ask(2))
        assert time.monotonic() - began < 1.0
    assert [a.error for a in answers] == [None, None]


def test_a_reply_that_trickles_in_is_given_up_after_the_time_out_too():
    # Each byte comes in time; only the whole is late.
    with serving(first(Reply(trickle_s=0.05))) as server:
        began = time.monotonic()
        (answer,) = reader_for(server, timeout_s=0.4).answer(ask(1))
        assert time.monotonic() - began < 2.0
    assert answer.error is None
    assert set(server.seen.values()) == {2}


def test_retries_are_bounded_and_the_question_carries_the_error():
    with serving(lambda *_: Reply(status=500, body=error_body("broken"))) as server:
        answers = reader_for(server, max_retries=2).answer(ask(2))
    assert set(server.seen.values()) == {3}
    assert {a.error for a in answers} == {"HTTP 500: broken (3 attempts)"}


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date"])
def test_retry_after_is_honoured(form):
    def behave(_prompt, before):
        if before:
            return OK
        date = email.utils.formatdate(time.time() + 2.0, usegmt=True)
        headers = {
            "seconds": {"Retry-After": "1"},
            "milliseconds": {"retry-after-ms": "900"},
            "date": {"Retry-After": date},
        }
        return Reply(status=429, body=error_body("slow down"), headers=headers[form])

    with serving(behave) as server:
        (answer,) = reader_for(server).answer(ask(1))
    assert answer.error is None
    # An HTTP date has whole seconds, so "in two seconds" may mean in one.
    assert 0.85 <= server.times[1] - server.times[0] < 3.0
    assert answer.latency_ms > 850


def test_a_very_long_retry_after_ends_the_run():
    reply = Reply(status=429, body=error_body("daily limit"), headers={"Retry-After": "3600"})
    with serving(lambda *_: reply) as server, pytest.raises(AnsweringError, match=r"daily limit.*3600 s.*run again"):
        reader_for(server).answer(ask(5))


def test_backoff_grows():
    with serving(lambda _prompt, before: OK if before == 4 else Reply(status=500, body=b"")) as server:
        settings = AnswerSettings(base_url=server.url, max_retries=4)
        OpenAIReader(settings, KEY, waits=Waits(0.1)).answer(ask(1))
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    # Jitter takes at most half of 0.1, 0.2, 0.4, 0.8 s.
    for gap, longest in zip(gaps, (0.1, 0.2, 0.4, 0.8), strict=True):
        assert longest / 2 <= gap < longest + 0.3


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_model_ends_the_run_at_once_and_shows_no_key(status, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    body = error_body(f"Incorrect API key provided: {KEY}, sk-proj-AbCd****WxYz. See\nthe docs.")
    with serving(lambda *_: Reply(status=status, body=body)) as server:
        with pytest.raises(AnsweringError) as raised:
            reader_for(server).answer(ask(100))
        assert sum(server.seen.values()) <= 4
        message = str(raised.value)
        assert server.url in message
    assert f"HTTP {status}" in message
    assert "\n" not in message
    assert raised.value.__cause__ is None
    for secret in (KEY, "AbCd", "WxYz"):
        assert secret not in message
    # The exception in flight when the line was made must not carry the key into a traceback either.
    assert KEY not in "".join(traceback.format_exception(raised.value))
    captured = capfd.readouterr()
    assert KEY not in caplog.text + captured.out + captured.err


def test_a_key_revoked_on_the_way_stops_the_other_workers_too():
    def behave(prompt, _before):
        revoked = Reply(status=401, body=error_body("revoked"))
        return revoked if "number 5?" in prompt else Reply(delay_s=0.02)

    with serving(behave) as server:
        with pytest.raises(AnsweringError, match="revoked"):
            reader_for(server).answer(ask(100))
        assert sum(server.seen.values()) < 15


def test_a_fatal_failure_does_not_wait_for_the_retries_of_others():
    def behave(prompt, _before):
        if "number 0?" in prompt:
            return Reply(status=401, body=error_body("revoked"), delay_s=0.2)
        return Reply(status=429, body=error_body("slow down"), headers={"Retry-After": "60"})

    with serving(behave) as server:
        began = time.monotonic()
        with pytest.raises(AnsweringError, match="revoked"):
            reader_for(server).answer(ask(4))
        assert time.monotonic() - began < 5.0


def test_an_exhausted_account_ends_the_run():
    body = error_body("You exceeded your current quota", type="insufficient_quota", code="insufficient_quota")
    with serving(lambda *_: Reply(status=429, body=body)) as server:
        with pytest.raises(AnsweringError, match="credit"):
            reader_for(server).answer(ask(50))
        assert sum(server.seen.values()) <= 4


def test_an_unreachable_server_is_one_line_without_credentials(caplog):
    caplog.set_level(logging.DEBUG)
    with serving(lambda *_: OK) as server:
        port = server.server_port
    url = f"http://alice:hunter2@127.0.0.1:{port}/v1?token=hunter2"
    settings = AnswerSettings(max_retries=1).model_copy(update={"base_url": url})
    with pytest.raises(AnsweringError) as raised:
        OpenAIReader(settings, KEY, waits=Waits(0.01)).answer(ask(100))
    message = str(raised.value)
    assert f"http://127.0.0.1:{port}/v1: server cannot be reached" in message
    assert "\n" not in message
    assert "hunter2" not in message
    assert KEY not in message


def test_credentials_in_the_url_are_used_and_stay_out_of_the_log(caplog):
    caplog.set_level(logging.DEBUG)
    with serving(lambda *_: OK) as server:
        url = server.url.replace("http://", "http://alice:hunter2@")
        # Settings refuse such an address; OPENAI_BASE_URL may hold one.
        (answer,) = choose_reader(AnswerSettings(), {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url}).answer(ask(1))
        assert answer.error is None
        assert server.keys == {"Basic YWxpY2U6aHVudGVyMg=="}
    assert "hunter2" not in caplog.text
    assert "127.0.0.1" in caplog.text


def test_a_broken_server_ends_the_run_after_some_questions_not_all():
    with serving(lambda *_: Reply(status=500, body=error_body("broken"))) as server:
        with pytest.raises(AnsweringError, match=r"10 questions failed one after the other.*broken"):
            reader_for(server, max_retries=1).answer(ask(500))
        assert len(server.seen) < 20


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "http://", "http://[::1/v1", "http://h:99999999/"])
def test_a_base_url_that_is_none_is_refused_before_anything_is_sent(url):
    with pytest.raises(AnsweringError, match=r"answers\.base_url"):
        OpenAIReader(AnswerSettings(base_url=url), KEY)


@pytest.mark.parametrize("key", ["", "  ", "secret\nX-Header: 1", "비밀열쇠"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(key):
    with pytest.raises(AnsweringError, match="OPENAI_API_KEY") as raised:
        OpenAIReader(AnswerSettings(), key)
    assert "secret" not in str(raised.value)
    assert "비밀" not in str(raised.value)


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_concurrency_is_reached_and_never_exceeded(concurrency):
    with serving(lambda *_: Reply(delay_s=0.03)) as server:
        reader_for(server, concurrency=concurrency).answer(ask(24))
    assert server.most_in_flight == concurrency


def test_works_inside_a_running_event_loop():
    async def caller(server):
        return reader_for(server).answer(ask(2))

    with serving(lambda *_: OK) as server:
        answers = asyncio.run(caller(server))
    assert [a.answer for a in answers] == ["Ada Lovelace"] * 2


def test_one_reader_serves_several_threads_and_loops():
    with serving(lambda *_: Reply(delay_s=0.01)) as server:
        reader = reader_for(server, max_cost_usd=0.01)
        results = []
        threads = [threading.Thread(target=lambda k=k: results.append(reader.answer(ask(8, str(k))))) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        assert server.most_in_flight <= 4
    assert len(results) == 4


@pytest.mark.parametrize("text", ["", None])
def test_an_empty_answer_is_said_and_still_paid(text):
    with serving(lambda *_: Reply(text=text)) as server:
        (answer,) = reader_for(server).answer(ask(1))
    assert answer.error == "the model returned no text"
    assert answer.cost_usd > 0


def test_a_server_that_counts_no_tokens_gets_estimates():
    with serving(lambda *_: Reply(text="Ada", usage=None)) as server:
        reader = reader_for(server)
        estimate = reader.estimate(ask(1))
        (answer,) = reader.answer(ask(1))
    assert answer.prompt_tokens == estimate.prompt_tokens
    assert answer.cost_usd >= estimate.cost_usd


# --- the spending limit -------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_spending_limit_is_never_overshot_and_paid_answers_are_kept(concurrency):
    # Answers as long as allowed: the dearest a request can get.
    usage = {"prompt_tokens": 400, "completion_tokens": 64}
    each = (400 * 2.5 + 64 * 10) / 1e6
    limit = 20 * each
    with serving(lambda *_: Reply(delay_s=0.005, usage=usage)) as server:
        reader = reader_for(server, concurrency=concurrency, max_cost_usd=limit)
        answers = reader.answer(ask(60))
    paid = [a for a in answers if a.error is None]
    assert {a.error for a in answers} == {None, "spending limit"}
    assert server.answered == len(paid)
    assert server.answered * each <= limit
    # Waiting for reservations to settle leaves little of the limit unused, at any concurrency.
    assert len(paid) >= 18
    assert sum(a.cost_usd for a in answers) == pytest.approx(len(paid) * each)


def test_the_limit_holds_over_all_runs_of_a_reader():
    usage = {"prompt_tokens": 400, "completion_tokens": 64}
    with serving(lambda *_: Reply(usage=usage)) as server:
        reader = reader_for(server, max_cost_usd=0.01)
        for system in range(5):
            reader.answer(ask(10, f"evidence of system {system}"))
        assert server.answered * (400 * 2.5 + 64 * 10) / 1e6 <= 0.01


def test_requests_without_an_answer_count_against_the_limit():
    # A reply that got lost on the way was generated, and is billed, all the same.
    with serving(lambda *_: Reply(drop=True)) as server:
        reader = reader_for(server, max_cost_usd=0.02, max_retries=8)
        answers = reader.answer(ask(2))
    assert {a.error for a in answers} == {"spending limit"}
    assert reader.ledger.spent_usd == 0.0
    assert 0.015 < reader.ledger.unconfirmed_usd <= 0.02
    assert sum(server.seen.values()) < 20


def test_a_limit_of_zero_sends_nothing_to_a_priced_model_and_everything_to_a_free_one():
    with serving(lambda *_: OK) as server:
        priced = reader_for(server, max_cost_usd=0.0).answer(ask(3))
        assert server.answered == 0
        free = reader_for(server, max_cost_usd=0.0, model="my-own-model").answer(ask(3))
    assert {a.error for a in priced} == {"spending limit"}
    assert {(a.error, a.cost_usd) for a in free} == {(None, 0.0)}


def test_an_unpriced_model_at_openai_is_refused_before_anything_is_sent():
    reader = OpenAIReader(AnswerSettings(model="gpt-99"), KEY)
    assert reader.estimate(ask(1)).cost_usd is None
    with pytest.raises(AnsweringError, match=r"gpt-99.*no price.*prices\.yaml"):
        reader.answer(ask(1))


def test_an_unpriced_model_elsewhere_is_free_and_said_so(caplog):
    with serving(lambda *_: OK) as server:
        reader = reader_for(server, model="my-own-model")
        assert "counted as free" in caplog.text
        assert "counted as free" in str(reader.estimate(ask(1)))


# --- the cache ----------------------------------------------------------------------------


def test_a_second_run_sends_and_pays_nothing(tmp_path):
    with serving(lambda *_: OK) as server:
        with AnswerCache(tmp_path / "answers.sqlite") as cache:
            reader = reader_for(server, cache)
            assert reader.estimate(ask(5)).to_send == 5
            before = reader.answer(ask(5))
            assert reader.estimate(ask(5)).cost_usd == 0.0
        with AnswerCache(tmp_path / "answers.sqlite") as cache:
            after = reader_for(server, cache, max_cost_usd=0.0).answer(ask(5))
        assert server.answered == 5
    assert [a.answer for a in after] == [a.answer for a in before]
    assert {(a.cached, a.cost_usd, a.error) for a in after} == {(True, 0.0, None)}
    assert [a.prompt_tokens for a in after] == [50] * 5


def test_other_settings_are_other_prompts(tmp_path):
    with serving(lambda *_: OK) as server, AnswerCache(tmp_path / "answers.sqlite") as cache:
        for settings in ({}, {"model": "gpt-4o-mini"}, {"temperature": 0.3}, {"max_answer_tokens": 32}):
            assert not reader_for(server, cache, **settings).answer(ask(1))[0].cached


def test_two_servers_do_not_share_answers(tmp_path):
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        for name in ("one", "two"):
            with serving(lambda *_, name=name: Reply(text=name)) as server:
                (answer,) = reader_for(server, cache, model="default").answer(ask(1))
            assert answer.answer == name


def test_failures_are_not_cached(tmp_path):
    failing = serving(first(Reply(status=400, body=error_body("no"))))
    with AnswerCache(tmp_path / "answers.sqlite") as cache, failing as server:
        reader = reader_for(server, cache)
        assert reader.answer(ask(1))[0].error
        assert reader.answer(ask(1))[0].answer == "Ada Lovelace"


def test_a_repeated_prompt_is_sent_and_paid_once():
    requests = ask(3) * 4
    with serving(lambda *_: OK) as server:
        seen = []
        answers = reader_for(server).answer(requests, lambda *state: seen.append(state))
        assert server.answered == 3
    assert sum(a.cost_usd for a in answers) == pytest.approx(3 * (50 * 2.5 + 3 * 10) / 1e6)
    assert sum(a.cached for a in answers) == 9
    assert seen[-1][:2] == (12, 12)


def test_what_was_received_before_a_failure_is_kept(tmp_path):
    def behave(prompt, _before):
        return Reply(status=401, body=error_body("revoked")) if "number 7?" in prompt else OK

    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        with serving(behave) as server, pytest.raises(AnsweringError, match=r"7 answers so far are cached"):
            reader_for(server, cache, concurrency=1).answer(ask(20))
        assert len(cache) == 7


def test_openai_gets_the_token_limit_under_its_new_name():
    # Sent to loopback all the same: only what the reader takes the server for is changed.
    with serving(lambda *_: OK) as server:
        reader = reader_for(server)
        reader.at_openai = True
        reader.answer(ask(1))
        body = server.bodies[0]
    assert body["max_completion_tokens"] == 64
    assert "max_tokens" not in json.dumps(body)
