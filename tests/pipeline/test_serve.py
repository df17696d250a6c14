"""The page and the API, over a memory of five documents: OpenAI's own client, bad requests, many at once, a browser."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
from browser import Browser
from openai import BadRequestError, OpenAI
from served_app import Server, opened

from zrag_core.answering.types import Answer
from zrag_core.memory import Memory
from zrag_core.web.app import create_app
from zrag_core.web.messages import message_of
from zrag_core.web.service import MemoryService

HELD = "Which river does Tarn Bridge span?"


@pytest.fixture(scope="module")
def server(towns_folder):
    running = Server(create_app(MemoryService(lambda: "one", opened(towns_folder)), ("127.0.0.1", "localhost")))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(server):
    return OpenAI(base_url=f"{server.url}/v1", api_key="none")


def test_chat_quotes_evidence_with_citations_that_lead_to_their_place(client, towns_folder):
    made = client.chat.completions.create(model="zrag", messages=[{"role": "user", "content": HELD}])
    message = made.choices[0].message
    assert "Tarn Bridge spans the river Ostel. [1]" in message.content
    cited = message.annotations[0].model_extra
    texts = {d.id: d.text for d in Memory.open(towns_folder, device="cpu").documents}
    place = cited["zrag"]
    assert texts[place["document_id"]][place["start"] : place["end"]] == place["text"]
    assert made.model_extra["zrag"]["reader"] == ""


def test_chat_is_streamed_word_by_word(client):
    messages = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "..."},
        {"role": "user", "content": [{"type": "text", "text": HELD}]},
    ]
    whole = client.chat.completions.create(model="zrag", messages=messages).choices[0].message.content
    chunks = list(client.chat.completions.create(model="zrag", messages=messages, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert len(chunks) > 5
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_responses_come_whole_and_as_events(client):
    whole = client.responses.create(model="zrag", input=HELD)
    assert "Ostel" in whole.output_text
    assert whole.output[0].content[0].annotations[0].type == "file_citation"
    events = list(client.responses.create(model="zrag", input=[{"role": "user", "content": HELD}], stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_retrieval_and_documents(server):
    found = httpx.post(f"{server.url}/v1/retrieve", json={"query": HELD, "budget": 16}).json()
    assert found["evidence"].startswith("Tarn Bridge spans")
    assert len(found["evidence"].encode()) <= 64
    own = httpx.get(f"{server.url}/v1/documents/{found['sources'][0]['document_id']}").json()
    assert own["title"] == "Tarn Bridge"
    assert httpx.get(f"{server.url}/v1/documents/none/such").status_code == 404
    assert httpx.get(f"{server.url}/healthz").json()["documents"] == 5
    assert httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"] == "zrag"
    assert "/v1/retrieve" in httpx.get(f"{server.url}/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("chat/completions", {"messages": []}, "no question"),
        ("chat/completions", {"messages": [{"role": "user", "content": "  "}]}, "no question"),
        ("chat/completions", {"messages": "x"}, "messages"),
        ("responses", {"input": "x" * 9_000}, "9,000 characters"),
        ("responses", {}, "input"),
        ("retrieve", {"query": "Who?", "budget": 0}, "budget"),
    ],
)
def test_a_bad_request_says_what_is_wrong(server, path, body, said):
    answer = httpx.post(f"{server.url}/v1/{path}", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert said in error["message"]
    assert error["type"] == "invalid_request_error"


def test_openais_client_understands_the_errors(client):
    with pytest.raises(BadRequestError, match="no question"):
        client.responses.create(model="zrag", input=" ")


def test_other_host_names_are_not_answered(server):
    assert httpx.get(server.url, headers={"Host": "evil.example"}).status_code == 400


def test_many_questions_at_once(server):
    def one(number):
        return httpx.post(f"{server.url}/v1/retrieve", json={"query": f"{HELD} ({number})"}, timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(40))) == {200}


def test_another_champion_is_asked_at_once(towns_folder):
    names, seen = ["first"], []

    def open_memory(name):
        seen.append(name)
        return opened(towns_folder)(name)

    service = MemoryService(lambda: names[-1], open_memory)
    service.ask(HELD)
    service.ask(HELD)
    names.append("second")
    service.ask(HELD)
    assert seen == ["first", "second"]


class Echo:
    """A reader that answers with one word of the evidence."""

    name, model = "openai", "echo-1"

    def answer(self, requests, progress=None):
        word = "Ostel"
        return [
            Answer(r.question_id, r.system, self.name, self.model, word, 1, 1, None, 1.0, False, "") for r in requests
        ]


def test_a_models_answer_cites_what_says_it(towns_folder):
    memory = Memory.open(towns_folder, least_confidence=0.0, device="cpu", threads=1, reader=Echo())
    (reply,) = memory.ask([HELD])
    message = message_of(reply)
    assert message.text == "Ostel [1]"
    assert "Ostel" in message.cited[0].text
    # What no source says has none beside it.
    made_up = message_of(replace(reply, answer="Vistula"))
    assert (made_up.text, made_up.cited) == ("Vistula", ())


def test_a_refusal_shows_no_evidence_as_an_answer(towns_folder):
    memory = Memory.open(towns_folder, least_confidence=1.0, device="cpu", threads=1)
    (reply,) = memory.ask([HELD])
    assert message_of(reply).cited == ()
    assert message_of(reply).text == "The memory does not hold this."


def test_the_command_serves_and_ends(towns):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "ZRAG_DATA_DIR": str(towns)}
    command = [sys.executable, "-m", "zrag_pipeline.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert "5 documents" in process.stdout.readline()
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        for _ in range(100):
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/healthz").json()["status"] == "ok"
                break
            except httpx.TransportError:
                time.sleep(0.1)
        else:
            pytest.fail("it does not answer")
    finally:
        process.terminate()
        process.wait(20)


# --- in a browser ----------------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path):
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no browser here")
    with Browser(program, tmp_path / "profile") as opened_browser:
        yield opened_browser


@pytest.mark.parametrize("width", [1200, 360])
def test_a_person_asks_reads_and_opens_the_source(browser, server, width, tmp_path):
    browser.size(width, 800)
    browser.go(server.url)
    browser.wait("document.getElementById('about').textContent.includes('5 ')")
    browser.type("#question", HELD)
    browser.press("Enter")
    browser.wait("document.querySelector('.sources')")
    assert "Tarn Bridge spans the river Ostel." in browser.text(".said")
    browser.screenshot(tmp_path / "asked.png")
    assert browser.value("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off"
    browser.click(".said .mark")
    browser.wait("document.querySelector('dialog[open] mark')")
    assert browser.text("dialog mark") == "Tarn Bridge spans the river Ostel."
    assert "It was built by seven masons" in browser.text("#text")
    browser.press("Escape")
    browser.wait("!document.querySelector('dialog[open]')")
    assert browser.value("document.activeElement.id") == "question", "typing goes on"
    assert json.loads(browser.value("JSON.stringify(window.problems || [])")) == []


def test_a_refusal_in_the_browser_shows_what_comes_nearest(browser, towns_folder):
    service = MemoryService(
        lambda: "one", lambda _: Memory.open(towns_folder, least_confidence=1.0, device="cpu", threads=1)
    )
    running = Server(create_app(service))
    try:
        browser.go(running.url)
        browser.type("#question", "<b>Who</b> rules the moon?")
        browser.press("Enter")
        browser.wait("document.querySelector('.refused .sources')")
        assert browser.text(".said") == "The memory does not hold this."
        assert browser.text(".question") == "<b>Who</b> rules the moon?"
        assert browser.value("document.querySelectorAll('.question b').length") == 0
    finally:
        running.stop()
