"""Answers `n` questions at a server with a cache; run as a process of its own by the test that kills it."""

from __future__ import annotations

import sys
from pathlib import Path

from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.types import AnswerRequest
from zrag_core.settings import AnswerSettings


def main(url: str, cache_path: str, n: int, concurrency: int) -> None:
    settings = AnswerSettings(model="test-model", base_url=url, concurrency=concurrency, timeout_s=20)
    with AnswerCache(Path(cache_path)) as cache:
        reader = OpenAIReader(settings, "none", cache=cache)
        requests = [AnswerRequest(str(i), "s", f"question {i}?", "evidence") for i in range(n)]
        answers = reader.answer(requests)
    print(sum(a.cached for a in answers), sum(a.error is None for a in answers))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
