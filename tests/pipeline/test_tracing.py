"""Calls as MLflow traces: complete, searchable, bounded, and never in the way of the answers."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from zrag_core.answering.types import Completion, Prompt
from zrag_pipeline.platform.tracing import CallTraces
from zrag_pipeline.platform.tracking import Tracking

MESSAGES = [{"role": "user", "content": "누가 썼는가?"}]
LABELS = {"purpose": "answer", "question_id": "q1", "system": "bm25"}


def completion(**changes):
    values = {"text": "에이다", "prompt_tokens": 50, "completion_tokens": 3, "cost_usd": 0.25, "latency_ms": 1500.0}
    return Completion(**(values | {"cached": False, "prompt_hash": "h"} | changes))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Tracking(tmp_path_factory.mktemp("추적"))


@pytest.fixture
def run(store):
    with store.run("answer_runs", asset="answer_runs", context_tags={"dagster.run_id": "d1"}) as run:
        yield run


def traced(store, run, **query):
    return store.client.search_traces(locations=[store.experiment_id], run_id=run.run_id, max_results=500, **query)


def write(store, run, calls, limit=1000):
    said = []
    traces = CallTraces(store, run, model_of={"answer": "gpt-4o", "judge": "mini"}, limit=limit, log=said.append)
    with traces:
        for prompt, done in calls:
            traces.record(prompt, done)
    return traces, said


def test_a_trace_says_all_about_its_call(store, run):
    before = time.time()
    failed = completion(text="", error="HTTP 400: too long", cost_usd=0.0)
    judge = LABELS | {"purpose": "judge", "question_id": "q2"}
    calls = [(Prompt(MESSAGES, 64, LABELS), completion()), (Prompt(MESSAGES, 16, judge), failed)]
    traces, said = write(store, run, calls)
    assert (traces.written, traces.left_out, said) == (2, 0, [])
    (first,) = traced(store, run, filter_string="tags.`zrag.question_id` = 'q1'")
    (span,) = first.data.spans
    assert (span.name, span.span_type, span.status.status_code) == ("answer", "CHAT_MODEL", "OK")
    assert span.inputs == {"messages": MESSAGES, "max_tokens": 64}
    assert span.outputs == "에이다"
    assert span.get_attribute("cached") is False
    assert span.get_attribute("cost_usd") == 0.25
    assert first.info.token_usage == {"input_tokens": 50, "output_tokens": 3, "total_tokens": 53}
    assert first.info.execution_duration == 1500
    assert before - 2.5 < first.info.request_time / 1000 < time.time()
    tags = {"zrag.system": "bm25", "zrag.model": "gpt-4o", "zrag.cached": "false", "dagster.run_id": "d1"}
    assert tags.items() <= first.info.tags.items()
    (second,) = traced(store, run, filter_string="tags.`zrag.question_id` = 'q2'")
    assert second.info.state == "ERROR"
    assert second.data.spans[0].get_attribute("error") == "HTTP 400: too long"
    assert second.info.tags["zrag.model"] == "mini"


def test_many_calls_are_written_in_batches_up_to_the_limit(store, run, monkeypatch):
    from mlflow.tracing.client import TracingClient

    sizes = []
    original = TracingClient.log_spans
    monkeypatch.setattr(
        TracingClient, "log_spans", lambda self, at, spans: sizes.append(len(spans)) or original(self, at, spans)
    )
    calls = [(Prompt(MESSAGES, 64, LABELS | {"question_id": str(i)}), completion()) for i in range(260)]
    traces, (said,) = write(store, run, calls, limit=230)
    assert (traces.written, traces.left_out) == (230, 30)
    assert "30 calls were not traced in MLflow: answers.max_traces is 230" in said
    assert max(sizes) == 100
    assert len({trace.info.tags["zrag.question_id"] for trace in traced(store, run)}) == 230


def test_recording_does_not_wait_for_the_store(store, run, monkeypatch):
    monkeypatch.setattr(CallTraces, "_store", lambda self, spans: time.sleep(0.5))
    traces = CallTraces(store, run, model_of={}, limit=200, log=print)
    with traces:
        began = time.monotonic()
        for _ in range(200):  # two batches
            traces.record(Prompt(MESSAGES, 64, LABELS), completion())
        assert time.monotonic() - began < 0.3
    assert time.monotonic() - began > 0.9, "the end waits for what is not written yet"


def test_a_store_that_fails_is_said_and_stops_nothing(store, run, monkeypatch):
    from mlflow.exceptions import MlflowException
    from mlflow.tracing.client import TracingClient

    def fail(*_):
        raise MlflowException("database is locked\nand more")

    monkeypatch.setattr(TracingClient, "log_spans", fail)
    traces, said = write(store, run, [(Prompt(MESSAGES, 64, LABELS), completion())] * 3)
    assert (traces.written, traces.left_out) == (0, 3)
    assert said == ["3 calls were not traced in MLflow: database is locked"]


@pytest.mark.parametrize("error", [MemoryError("no room"), SystemExit("no room"), RuntimeError("no room")])
def test_a_writer_that_dies_unexpectedly_loses_no_trace_in_silence(store, run, monkeypatch, error):
    def die(*_):
        raise error

    monkeypatch.setattr(CallTraces, "_span", die)
    traces, said = write(store, run, [(Prompt(MESSAGES, 64, LABELS), completion())] * 150)
    assert (traces.written, traces.left_out) == (0, 150)
    assert said == ["150 calls were not traced in MLflow: no room"], "once, however many batches were lost"


def test_a_client_that_cannot_be_imported_is_said(store, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.tracing.client", None)
    traces, (said,) = write(store, run, [(Prompt(MESSAGES, 64, LABELS), completion())])
    assert traces.left_out == 1
    assert "mlflow.tracing.client" in said


def test_recording_goes_on_where_no_thread_can_be_started(store, run, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    traces, said = write(store, run, [(Prompt(MESSAGES, 64, LABELS), completion())] * 100)
    assert traces.left_out == 100
    assert said == ["100 calls were not traced in MLflow: can't start new thread"]


@pytest.mark.parametrize("limit", [0, 10])
def test_without_calls_or_without_a_limit_there_is_no_thread(store, run, limit):
    calls = [] if limit else [(Prompt(MESSAGES, 64, LABELS), completion())]
    traces, _ = write(store, run, calls, limit=limit)
    assert not traces._writer._threads
    assert traced(store, run) == []
