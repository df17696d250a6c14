"""What the answer client costs for each request, at a server that answers at once.

All of it counts: prompts, hashes, the ledger, HTTP, reading the reply, and the commit to the cache. Beside it, a bare
HTTP client that sends the same bytes shows what the server and the machine alone take, and a lone commit what the disk
takes.
"""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from zrag_core.answering.cache import AnswerCache, CachedAnswer
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.prompts import build_messages
from zrag_core.answering.types import AnswerRequest
from zrag_core.settings import AnswerSettings
from zrag_pipeline.defs.benchmarks.instant_server import instant_server
from zrag_pipeline.defs.benchmarks.measurement import Figures, Measurement

CONCURRENCIES = (1, 16)
REQUESTS = 500
_WARM_UP = 20
_COMMITS = 50
# A passage of about 256 tokens.
_EVIDENCE = "The observatory was founded in 1887 by Elvira Quandt, who had come to Tarn from the coast. " * 11


def measure_client(requests: int) -> Measurement:
    """Measure at every concurrency.

    Systems are "client", "bare_http" and "disk" ("ms_per_commit"). The metric "c16/ms_per_request" is wall time at
    concurrency 16 divided by the number of requests, waiting for other programs included; "c16/cpu_ms_per_request" is
    this process' CPU time.

    Args:
        requests: different questions asked at each concurrency.
    """
    with instant_server() as url:
        rows = [("disk", "ms_per_commit", _commit_ms()), *_bare(url, requests)]
        for concurrency in CONCURRENCIES:
            rows += _client(url, requests, concurrency)
    frame = pd.DataFrame(rows, columns=["system", "metric", "value"]).assign(unit="ms")
    metrics = {f"{system}/{metric}": value for system, metric, value in rows}
    return Measurement(frame, frame, metrics, params={"requests": requests})


def _client(url: str, requests: int, concurrency: int) -> Figures:
    settings = AnswerSettings(model="instant", base_url=url, concurrency=concurrency)
    asked = [AnswerRequest(str(i), "bm25", f"Question {i}?", _EVIDENCE) for i in range(_WARM_UP + requests)]
    with TemporaryDirectory() as folder, AnswerCache(Path(folder, "answers.sqlite")) as cache:
        reader = OpenAIReader(settings, "none", cache=cache)
        reader.answer(asked[:_WARM_UP])
        began = _clocks()
        answers = reader.answer(asked[_WARM_UP:])
        took = _clocks() - began
    if failed := [answer.error for answer in answers if answer.error]:
        raise RuntimeError(f"{len(failed)} requests failed: {failed[0]}")
    return _per_request("client", concurrency, took / requests)


def _commit_ms() -> float:
    with TemporaryDirectory() as folder, AnswerCache(Path(folder, "answers.sqlite")) as cache:
        began = time.perf_counter()
        for i in range(_COMMITS):
            cache.put(str(i), CachedAnswer("an answer", 50, 3, "instant", 0.0))
        return 1000 * (time.perf_counter() - began) / _COMMITS


def _bare(url: str, requests: int) -> Figures:
    parts = urlsplit(url)
    body = json.dumps({"model": "instant", "messages": build_messages("Question?", _EVIDENCE, "en")})
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    began = _clocks()
    for i in range(_WARM_UP + requests):
        if i == _WARM_UP:
            began = _clocks()
        connection.request("POST", f"{parts.path}/chat/completions", body, {"Content-Type": "application/json"})
        json.loads(connection.getresponse().read())
    took = _clocks() - began
    connection.close()
    return _per_request("bare_http", 1, took / requests)


def _clocks() -> np.ndarray:
    """Seconds of wall time and of this process' CPU time."""
    return np.array([time.perf_counter(), time.process_time()])


def _per_request(system: str, concurrency: int, seconds: np.ndarray) -> Figures:
    names = (f"c{concurrency}/ms_per_request", f"c{concurrency}/cpu_ms_per_request")
    return [(system, name, float(1000 * each)) for name, each in zip(names, seconds, strict=True)]
