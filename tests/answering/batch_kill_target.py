"""Answers `n` questions through the Batch API; run as a process of its own by the test that kills it."""

from __future__ import annotations

import sys
from pathlib import Path

from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.failures import Waits
from zrag_core.answering.types import AnswerRequest
from zrag_core.settings import AnswerSettings


def main(url: str, cache_path: str, n: int) -> None:
    settings = AnswerSettings(base_url=url, timeout_s=20, batch=True)
    with AnswerCache(Path(cache_path)) as cache:
        reader = OpenAIReader(settings, "none", cache=cache, waits=Waits(0.05, 0.1))
        answers = reader.answer([AnswerRequest(str(i), "s", f"question {i}?", "evidence") for i in range(n)])
    print(sum(a.error is None for a in answers), reader.ledger.spent_usd)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
