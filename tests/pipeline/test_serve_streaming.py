"""Answers by a model, seen while they are written: by OpenAI's client, on the page, and at the terminal."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from answering.streaming_server import CUT, streaming
from answering.tiny_chat_model import save_tiny_llama
from browser import Browser
from openai import APIError, OpenAI
from served_app import Server, opened

from zrag_core.answering.answer_stream import AnswerStream
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.failures import Waits
from zrag_core.answering.local import LocalReader
from zrag_core.answering.local_process import serving
from zrag_core.settings import LOCAL_MODEL, AnswerSettings
from zrag_core.web.app import create_app
from zrag_core.web.service import MemoryService

HELD = "Which river does Tarn Bridge span?"
OTHER = "Who built Tarn Bridge?"
KEY = "my-very-secret-key-0123"


@contextmanager
def served(towns_folder, behave, reader=None, **options):
    """The application whose model answers as a test says: its URL, its service, and the model's server."""
    with streaming(behave, **options) as model:
        settings = AnswerSettings(base_url=model.url, max_retries=0, timeout_s=30.0)
        reader = reader or OpenAIReader(settings, KEY, waits=Waits(0.01))
        service = MemoryService(lambda: "one", opened(towns_folder, reader=reader))
        running = Server(create_app(service))
        try:
            yield running, service, model
        finally:
            running.stop()


def client_of(running):
    return OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)


def chat(running, question=HELD, stream=True):
    messages = [{"role": "user", "content": question}]
    return client_of(running).chat.completions.create(model="zrag", messages=messages, stream=stream)


def test_a_chat_shows_evidence_then_words_while_the_model_writes(towns_folder):
    go_on = threading.Event()
    with served(towns_folder, lambda *_: ["<think>So.</think>", "Os", "te", go_on, "l"]) as (running, _, model):
        came = iter(chat(running))
        first = next(came)
        known = first.model_extra["zrag"]
        assert first.choices[0].delta.role == "assistant"
        assert (known["answer"], known["sources"][0]["text"]) == ("", "Tarn Bridge spans the river Ostel.")
        assert [next(came).choices[0].delta.content for _ in "12"] == ["Os", "te"], "while the model's server waits"
        assert not go_on.is_set()
        go_on.set()
        chunks = [*came]
        text = "Oste" + "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        whole = chat(running, stream=False)
        message = whole.choices[0].message
        assert text == message.content == "Ostel [1]"
        assert chunks[-1].choices[0].finish_reason == "stop"
        streamed = chunks[-1].choices[0].delta.model_extra["annotations"]
        assert streamed == [a if isinstance(a, dict) else a.model_dump(exclude_unset=True) for a in message.annotations]
        assert text[streamed[0]["index"] :].startswith("[1]")
        last, at_once = chunks[-1].model_extra["zrag"], whole.model_extra["zrag"]
        assert {**last, "latency_ms": 0} == {**at_once, "latency_ms": 0}
        assert [body.get("stream", False) for body in model.bodies] == [True, False]


def test_a_response_shows_words_while_the_model_writes(towns_folder):
    go_on = threading.Event()
    with served(towns_folder, lambda *_: ["Os", go_on, "tel"]) as (running, _, _):
        events = []
        for event in client_of(running).responses.create(model="zrag", input=HELD, stream=True):
            events.append(event)
            if event.type == "response.output_text.delta":
                go_on.set()
        whole = client_of(running).responses.create(model="zrag", input=HELD)
        assert [event.sequence_number for event in events] == list(range(len(events)))
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert deltas[:2] == ["Os", "tel"]
        assert "".join(deltas) == events[-1].response.output_text == whole.output_text == "Ostel [1]"
        assert events[0].response.id == events[-1].response.id
        assert events[1].item.id == events[-1].response.output[0].id
        assert events[-1].response.output[0].content == whole.output[0].content


def test_reasoning_that_nobody_could_tell_gives_way_to_the_answer(towns_folder):
    """Where a chat template has opened it in the prompt: the last word is right, and the next answer from its start."""
    with served(towns_folder, lambda *_: ["It says ", "so.", "</think>", "Ostel"]) as (running, _, _):
        events = list(client_of(running).responses.create(model="zrag", input=HELD, stream=True))
        assert events[-1].response.output_text == "Ostel [1]"
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta").endswith("\n\nOstel [1]")
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chat(running)) == "Ostel [1]"


@pytest.mark.parametrize("broken", [CUT, {"error": {"message": f"overloaded {KEY}"}}], ids=["cut", "error"])
def test_an_answer_that_breaks_off_ends_in_one_error(towns_folder, broken):
    with served(towns_folder, lambda _, before: ["Ostel"] if before > 1 else ["Os", broken]) as (running, _, _):
        said = []
        with pytest.raises(APIError, match="the answering model failed: the answer broke off") as raised:
            said += (chunk.choices[0].delta.content for chunk in chat(running))
        assert KEY not in str(raised.value)
        events = list(client_of(running).responses.create(model="zrag", input=HELD, stream=True))
        assert [e.type for e in events].count("response.failed") == 1
        failed = events[-1].response
        assert (failed.status, failed.error.code) == ("failed", "server_error")
        assert "broke off" in failed.error.message
        assert [c.choices[0].delta.content for c in chat(running)][1] == "Ostel", "the next one is answered"


def test_the_stream_of_an_error_is_its_last_word(towns_folder):
    with served(towns_folder, lambda *_: ["Os", CUT]) as (running, _, _):
        body = {"messages": [{"role": "user", "content": HELD}], "stream": True}
        lines = httpx.post(f"{running.url}/v1/chat/completions", json=body).text.split("\n\n")
        assert lines.pop() == ""
        *_, word, error = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert word["choices"][0]["delta"]["content"] == "Os"
        assert error["error"]["type"] == "server_error"
        refused = (401, b'{"error": {"message": "no such key"}}')
    with served(towns_folder, lambda *_: refused) as (running, _, _):
        with pytest.raises(APIError, match="no such key"):
            list(chat(running))
        answer = httpx.post(f"{running.url}/v1/chat/completions", json={**body, "stream": False})
        assert answer.status_code == 503


def test_a_client_that_goes_ends_the_answer_and_the_next_one_is_served(towns_folder):
    def behave(prompt, _):
        return ["Os", threading.Event()] if HELD in prompt else ["masons"]

    with served(towns_folder, behave) as (running, _, model):
        threads = threading.active_count()
        for _ in range(3):
            model.left.clear()
            came = chat(running)
            while next(came).choices[0].delta.content != "Os":
                pass
            came.close()
            assert model.left.wait(10), "the model's server is hung up on"
        assert chat(running, OTHER, stream=False).choices[0].message.content.startswith("masons")
        # uvicorn's pool of threads is reused, and nothing waits.
        assert threading.active_count() <= threads + 4


def test_who_waits_behind_an_answer_and_goes_is_never_asked_for(towns_folder):
    go_on = threading.Event()

    def behave(prompt, _):
        return ["Os", go_on] if HELD in prompt else ["masons"]

    with served(towns_folder, behave) as (running, service, model), ThreadPoolExecutor() as pool:
        came = chat(running)
        next(came)
        stream = AnswerStream(lambda piece: None)
        waiting = pool.submit(service.ask_streamed, OTHER, stream, lambda reply: None)
        stream.stop()
        go_on.set()
        assert len(list(came)) > 1
        assert "stopped" in str(waiting.exception(10))
        assert len(model.bodies) == 1


def test_the_local_readers_answer_is_streamed_when_it_is_known_to_be_supported(towns_folder, tmp_path):
    with serving(save_tiny_llama(tmp_path / "tiny", window=4096), LOCAL_MODEL, threads=1) as up:
        reader = LocalReader(AnswerSettings(reader="local", base_url=up.base_url))
        with served(towns_folder, lambda *_: [], reader) as (running, service, _):
            events = list(client_of(running).responses.create(model="zrag", input=HELD, stream=True))
            deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
            assert "".join(deltas) == events[-1].response.output_text
            reply = service.ask(HELD)
            assert events[-1].response.model_extra["zrag"]["answer"] == reply.answer
            assert '"' not in reply.answer


# --- at the terminal --------------------------------------------------------------------------------


class Terminal:
    """A command on a pseudo terminal."""

    def __init__(self, *arguments, **environment):
        self._own, other = pty.openpty()
        command = [sys.executable, "-m", "zrag_pipeline.cli", *arguments]
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdin=other, stdout=other, stderr=other
        )
        os.close(other)
        self.text = ""

    def read(self, until, seconds=60):
        """What was printed up to `until`, or to the end for None."""
        deadline = time.monotonic() + seconds
        while until is None or until not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self._own], [], [], 0.1)[0]:
                try:
                    chunk = os.read(self._own, 4096)
                except OSError:  # how Linux says that the other end is closed
                    chunk = b""
                if not chunk:
                    assert until is None, self.text
                    break
                self.text += chunk.decode().replace("\r\n", "\n")
        return self.text

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._own)


@pytest.fixture
def terminal(towns, tmp_path):
    """Starts commands on a terminal, over a copy of the memory so that no answer is in a cache."""
    data = tmp_path / "자료"
    shutil.copytree(towns, data)
    started = []

    def start(model, *arguments):
        own = {"ZRAG_DATA_DIR": str(data), "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": KEY, "COLUMNS": "60"}
        started.append(Terminal(*arguments, **own))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_a_person_at_the_terminal_reads_along(terminal):
    go_on = threading.Event()
    words = [
        "The river ",
        "Ostel, which",
        " \x1b[31mis ",
        go_on,
        "spanned",
        " by that very bridge, as the evidence says",
    ]
    with streaming(lambda *_: words) as model:
        asked = terminal(model, "ask", "--reader", "openai", "--least-confidence", "0", HELD)
        began = asked.read("which")
        assert "Question   Which river" in began
        assert "Answer     The river Ostel, which" in began
        assert "Evidence" not in began
        go_on.set()
        live = asked.read(None)
        assert asked.process.wait(20) == 0
        assert "\x1b" not in live
        # The same reply at once, from the cache and by a pipe.
        again = terminal(model, "ask", "--reader", "openai", "--least-confidence", "0", HELD).read(None)
        assert len(model.bodies) == 1
        assert live.rpartition(", ")[0] == again.rpartition(", ")[0], "all but the time that it took"
        assert live.count("Question") == live.count("Answer ") == 1


def test_an_answer_that_breaks_off_at_the_terminal(terminal):
    with streaming(lambda *_: ["The river Ostel ", "is", CUT]) as model:
        asked = terminal(model, "ask", "--reader", "openai", "--least-confidence", "0", HELD)
        shown = asked.read(None)
        assert asked.process.wait(20) == 1
    assert "Answer     none: the answer broke off" in shown
    assert KEY not in shown
    with streaming(lambda *_: (401, b'{"error": {"message": "no such key"}}')) as model:
        asked = terminal(model, "ask", "--reader", "openai", "--least-confidence", "0", HELD)
        shown = asked.read(None)
        assert asked.process.wait(20) == 1
    assert "\nzrag: " in shown
    assert "no such key" in shown


# --- in a browser -----------------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path):
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no browser here")
    with Browser(program, tmp_path / "profile") as opened_browser:
        yield opened_browser


def problems(browser):
    return json.loads(browser.value("JSON.stringify(window.problems)"))


@pytest.mark.parametrize("width", [1200, 360])
def test_a_person_reads_along_on_the_page(browser, towns_folder, width):
    go_on = threading.Event()
    with served(towns_folder, lambda *_: ["The <b>river</b> ", go_on, "Ostel"]) as (running, _, _):
        browser.size(width, 800)
        browser.go(running.url)
        browser.type("#question", HELD)
        browser.press("Enter")
        browser.wait("document.querySelector('.said')?.textContent === 'The <b>river</b>'")
        assert "Tarn Bridge spans the river Ostel." in browser.text(".sources"), "the evidence is there already"
        assert browser.value("document.querySelector('.said').getAttribute('aria-busy')") == "true"
        assert browser.value("document.getElementById('send').disabled")
        assert browser.value("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off"
        go_on.set()
        browser.wait("document.querySelector('.said').getAttribute('aria-busy') === 'false'")
        assert browser.text(".said").startswith("The <b>river</b> Ostel")
        assert "gpt-4o" in browser.text("article .note")
        assert browser.value("document.querySelectorAll('.sources').length") == 1
        browser.wait("!document.getElementById('send').disabled")
        assert browser.value("document.activeElement.id") == "question", "typing goes on"
        assert problems(browser) == []


def test_the_page_says_that_an_answer_broke_off(browser, towns_folder):
    with served(towns_folder, lambda _, before: ["Ostel"] if before else ["The river ", CUT]) as (running, _, _):
        browser.go(running.url)
        browser.type("#question", HELD)
        browser.press("Enter")
        browser.wait("document.querySelector('.failed .problem')")
        assert "broke off" in browser.text(".problem")
        assert browser.text(".said") == "The river", "what was said stays"
        browser.wait("!document.getElementById('send').disabled")
        browser.type("#question", HELD)
        browser.press("Enter")
        browser.wait("document.querySelectorAll('article').length === 2")
        browser.wait("document.querySelector('article:last-child .mark')")
        assert browser.text("article:last-child .said") == "Ostel [1]"
        browser.click("article:last-child .mark")
        browser.wait("document.querySelector('dialog[open] mark')")
        assert problems(browser) == []
