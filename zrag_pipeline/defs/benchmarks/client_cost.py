"""What the answer client costs for each request, at a server that answers at once.

All of it counts: prompts, hashes, the ledger, HTTP, reading the reply, and the commit to the cache. Beside it, a bare
HTTP client that sends the same bytes shows what the server and the machine alone take, and a lone commit what the disk
takes.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pandas as pd

from zrag_core.answering.cache import AnswerCache, CachedAnswer
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.prompts import build_messages
from zrag_core.answering.types import AnswerRequest
from zrag_core.settings import AnswerSettings
from zrag_pipeline.defs.benchmarks.instant_server import instant_server

CONCURRENCIES = (1, 16)
REQUESTS = 500
_WARM_UP = 20
_COMMITS = 50
# A passage of about 256 tokens.
_EVIDENCE = "The observatory was founded in 1887 by Elvira Quandt, who had come to Tarn from the coast. " * 11


def measure_client(requests: int) -> pd.DataFrame:
    """Measure at every concurrency.

    Args:
        requests: different questions asked at each concurrency.

    Returns:
        rows (system, metric, value, unit); system is "client", "bare_http" or "disk" ("ms_per_commit"). The metric
        "c16/ms_per_request" is wall time at concurrency 16 divided by the number of requests, waiting for other
        programs included; "c16/cpu_ms_per_request" is this process' CPU time.
    """
    with instant_server() as url:
        rows = [*_disk(), *_bare(url, requests)]
        for concurrency in CONCURRENCIES:
            rows += _client(url, requests, concurrency)
    return pd.DataFrame(rows, columns=["system", "metric", "value", "unit"])


def rows_for_warehouse(frame: pd.DataFrame, run_id: str) -> pd.DataFrame:
    """The table `benchmarks`."""
    return frame.assign(run_id=run_id, benchmark="client")


def _client(url: str, requests: int, concurrency: int) -> Iterator[tuple[str, str, float, str]]:
    settings = AnswerSettings(model="instant", base_url=url, concurrency=concurrency)
    asked = [AnswerRequest(str(i), "bm25", f"Question {i}?", _EVIDENCE) for i in range(_WARM_UP + requests)]
    with TemporaryDirectory() as folder, AnswerCache(Path(folder, "answers.sqlite")) as cache:
        reader = OpenAIReader(settings, "none", cache=cache)
        reader.answer(asked[:_WARM_UP])
        began, cpu = time.perf_counter(), time.process_time()
        answers = reader.answer(asked[_WARM_UP:])
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    if failed := [answer.error for answer in answers if answer.error]:
        raise RuntimeError(f"{len(failed)} requests failed: {failed[0]}")
    yield "client", f"c{concurrency}/ms_per_request", 1000 * wall / requests, "ms"
    yield "client", f"c{concurrency}/cpu_ms_per_request", 1000 * cpu / requests, "ms"


def _disk() -> Iterator[tuple[str, str, float, str]]:
    with TemporaryDirectory() as folder, AnswerCache(Path(folder, "answers.sqlite")) as cache:
        began = time.perf_counter()
        for i in range(_COMMITS):
            cache.put(str(i), CachedAnswer("an answer", 50, 3, "instant", 0.0))
        yield "disk", "ms_per_commit", 1000 * (time.perf_counter() - began) / _COMMITS, "ms"


def _bare(url: str, requests: int) -> Iterator[tuple[str, str, float, str]]:
    parts = urlsplit(url)
    body = json.dumps({"model": "instant", "messages": build_messages("Question?", _EVIDENCE, "en")})
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    for i in range(_WARM_UP + requests):
        if i == _WARM_UP:
            began, cpu = time.perf_counter(), time.process_time()
        connection.request("POST", f"{parts.path}/chat/completions", body, {"Content-Type": "application/json"})
        json.loads(connection.getresponse().read())
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    connection.close()
    yield "bare_http", "c1/ms_per_request", 1000 * wall / requests, "ms"
    yield "bare_http", "c1/cpu_ms_per_request", 1000 * cpu / requests, "ms"
