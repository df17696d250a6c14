"""The local reader's server: loopback only, OpenAI's API, batches, and no process left behind whatever happens."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from tiny_chat_model import save_tiny_llama

from zrag_core.answering.answer_stream import AnswerStream
from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.choice import choose_reader
from zrag_core.answering.local_process import refuse_other_models, serving
from zrag_core.answering.prompts import build_messages
from zrag_core.answering.types import AnswerRequest
from zrag_core.errors import AnsweringError
from zrag_core.settings import LOCAL_MODEL, AnswerSettings, load_settings

REQUESTS = [AnswerRequest(f"q{i}", "bm25", f"When was house {i} built?", "It was built in 1804.") for i in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder, LOCAL_MODEL, threads=1) as up:
        yield up


def settings_for(server, **values):
    return AnswerSettings(reader="local", base_url=server.base_url, max_answer_tokens=6, **values)


def post(server, **body):
    """Status and JSON of a chat completion request."""
    data = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, **body}).encode()
    request = urllib.request.Request(f"{server.base_url}/chat/completions", data)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def events(server, **body):
    """The events of a streamed request, each with the time when it came."""
    data = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True, **body}).encode()
    request = urllib.request.Request(f"{server.base_url}/chat/completions", data)
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        for line in reply:
            if line.startswith(b"data: "):
                yield time.monotonic(), line[6:].strip().decode()


def gone(pid, seconds=10.0):
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_answers_are_labelled_local_with_the_models_own_name_and_cost_nothing(server, tmp_path):
    with AnswerCache(tmp_path / "c"):
        pass
    settings = settings_for(server, model="gpt-4o", max_cost_usd=0.0)
    reader = choose_reader(settings, {"OPENAI_API_KEY": "sk-secret"}, tmp_path / "c")
    answers = reader.answer(REQUESTS)
    assert {(a.reader, a.model, a.cost_usd) for a in answers} == {("local", LOCAL_MODEL, 0.0)}
    assert all(a.error in (None, "the model returned no text") for a in answers)
    assert all(0 < a.completion_tokens <= 6 for a in answers)
    # What random weights write stands in no evidence, so the evidence itself is the answer.
    assert {a.answer for a in answers if not a.error} == {"It was built in 1804."}
    estimate = str(reader.estimate([AnswerRequest("new", "bm25", "Who?", "Ada.")]))
    assert LOCAL_MODEL in estimate
    assert "gpt" not in estimate
    # The next run's server has another port, and the answers are still in the cache.
    elsewhere = settings.model_copy(update={"base_url": "http://127.0.0.1:9/v1"})
    again = choose_reader(elsewhere, {}, tmp_path / "c").answer(REQUESTS)
    assert [(a.answer, a.cached) for a in again if not a.error] == [(a.answer, True) for a in answers if not a.error]


def test_it_listens_on_loopback_alone(server):
    (listening,) = [c for c in psutil.Process(server.process.pid).net_connections("inet") if c.status == "LISTEN"]
    assert listening.laddr.ip == "127.0.0.1"
    assert server.base_url == f"http://127.0.0.1:{listening.laddr.port}/v1"


def test_the_api_says_what_is_wrong_with_a_request(server):
    assert post(server)[0] == 200
    assert post(server, model="gpt-4o") == (
        404,
        {"error": {"message": f"this server has only the model {LOCAL_MODEL}", "type": "invalid_request_error"}},
    )
    for wrong in (
        {"messages": []},
        {"messages": "Hello"},
        {"stream_options": 3},
        {"temperature": -1},
        {"max_tokens": -1},
    ):
        status, reply = post(server, **wrong)
        assert (status, "error" in reply) == (400, True), wrong
    status, reply = post(server, messages=[{"role": "user", "content": "word " * 3000}])
    assert status == 400
    assert "reads 2048" in reply["error"]["message"]
    assert post(server)[0] == 200, "and goes on"


def test_a_reply_is_streamed_while_it_is_written(server):
    """Oracle: the same reply at once."""
    whole = post(server, max_tokens=300)[1]
    came = list(events(server, max_tokens=300, stream_options={"include_usage": True}))
    assert came.pop()[1] == "[DONE]"
    *chunks, usage = [json.loads(data) for _, data in came]
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"]["role"] == "assistant"
    assert (
        "".join(choice["delta"].get("content", "") for choice in choices) == whole["choices"][0]["message"]["content"]
    )
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    first, last = came[1][0], came[-2][0]
    assert (len(choices) > 50, last - first > 0.05) == (True, True), "the first words do not wait for the last ones"
    assert "usage" not in json.loads(list(events(server, max_tokens=2))[-2][1])


def test_streamed_and_other_requests_are_written_together(server):
    with ThreadPoolExecutor() as pool:
        streamed = [pool.submit(lambda n: list(events(server, max_tokens=n)), n) for n in (5, 40)]
        at_once = [pool.submit(post, server, max_tokens=n) for n in (7, 30)]
    for n, task in zip((5, 40), streamed, strict=True):
        chunks = [json.loads(data)["choices"][0] for _, data in task.result()[:-1]]
        text = "".join(choice["delta"].get("content", "") for choice in chunks)
        assert text == post(server, max_tokens=n)[1]["choices"][0]["message"]["content"]
    assert [task.result()[1]["usage"]["completion_tokens"] for task in at_once] == [7, 30]


def test_who_hangs_up_is_not_written_for(server):
    began = time.monotonic()
    assert len(list(events(server, max_tokens=1000))) > 2
    whole = time.monotonic() - began
    for _ in range(5):
        came = events(server, max_tokens=1000)
        for _ in range(3):
            next(came)
        came.close()
    began = time.monotonic()
    assert post(server)[0] == 200
    assert time.monotonic() - began < max(whole, 0.2), "five were left behind"


def test_the_reader_shows_what_the_server_streams(server, tmp_path):
    reader = choose_reader(settings_for(server), {}, tmp_path / "c")
    pieces = []
    for request in REQUESTS:
        answer = reader.answer_streamed(request, AnswerStream(pieces.append))
        assert "".join(pieces) == answer.answer
        (again,) = reader.answer([request])
        assert (again.cached, again.answer) == (True, answer.answer)
        pieces.clear()


def test_a_server_with_other_models_is_refused_as_its_answers_would_be_mislabelled(server):
    refuse_other_models(server.base_url, LOCAL_MODEL)
    with pytest.raises(AnsweringError, match=f"has not another, .* but {LOCAL_MODEL}"):
        refuse_other_models(server.base_url, "another")
    with pytest.raises(AnsweringError, match="does not say which models"):
        refuse_other_models("http://127.0.0.1:9/v1", LOCAL_MODEL)


def test_it_is_killed_when_the_context_is_left_by_an_error(folder):
    with pytest.raises(KeyboardInterrupt), serving(folder, "m", threads=1) as up:
        raise KeyboardInterrupt
    assert not psutil.pid_exists(up.process.pid)
    with socket.socket() as probe:
        probe.settimeout(2)
        assert probe.connect_ex(("127.0.0.1", int(up.base_url.split(":")[2].split("/")[0]))) != 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_process_that_started_it_even_if_that_is_killed(folder, number):
    program = textwrap.dedent("""
        import signal, sys, time
        from pathlib import Path
        from zrag_core.answering.local_process import serving
        # A library of an earlier test may have left SIGTERM blocked or ignored, and programs inherit that.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with serving(Path(sys.argv[1]), "m", threads=1) as up:
            print(up.process.pid, flush=True)
            time.sleep(100)
    """)
    starter = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
    try:
        pid = int(starter.stdout.readline())
        starter.send_signal(number)
        starter.wait(timeout=90)
        assert gone(pid)
    finally:
        starter.kill()
        starter.wait()


def test_a_server_that_cannot_start_is_one_line_with_its_last_words(tmp_path, folder):
    with (
        pytest.raises(AnsweringError, match=r"ended with code 1: .*cannot be loaded") as raised,
        serving(tmp_path, "m", threads=1),
    ):
        pass
    assert "\n" not in str(raised.value)
    with pytest.raises(AnsweringError, match="was not ready in time"), serving(folder, "m", threads=1, start_s=0.0):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(AnsweringError, match=f"127.0.0.1:{port}: cannot listen.*in use"),
            serving(folder, "m", threads=1, port=port),
        ):
            pass


def test_the_server_is_told_no_key(folder, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving(folder, "m", threads=1) as up:
        assert "OPENAI_API_KEY" not in psutil.Process(up.process.pid).environ()
    assert os.environ["OPENAI_API_KEY"] == "sk-secret"


def test_reader_local_without_a_server_says_how_to_start_one():
    with pytest.raises(AnsweringError, match="zrag serve-reader"):
        choose_reader(AnswerSettings(reader="local"), {"OPENAI_BASE_URL": "http://h:1/v1"})


def test_it_has_no_batches():
    with pytest.raises(Exception, match="reader 'local' has no Batch API"):
        load_settings({"answers": {"reader": "local", "batch": True}})


def test_the_small_models_prompt_holds_question_and_evidence_in_both_languages():
    for language in ("en", "ko"):
        messages = build_messages("Who?", "Ada did.", language, purpose="answer_small")
        assert "Ada did." in messages[-1]["content"]
        assert "Who?" in messages[-1]["content"]
        closed = build_messages("Who?", "Ada did.", language, True, purpose="answer_small")
        assert not any("Ada" in message["content"] for message in closed)
