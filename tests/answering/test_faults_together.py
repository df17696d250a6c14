"""One run against a server that fails in every way at once: every answer once, and paid for once."""

from __future__ import annotations

import pytest
from faulty_server import Reply, error_body, serving

from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.failures import Waits
from zrag_core.answering.types import AnswerRequest
from zrag_core.settings import AnswerSettings

# By what the server does with the first request for a question; the second is answered.
UNBILLED = {
    "429": Reply(status=429, body=error_body("slow down"), headers={"Retry-After": "0.2"}),
    "500": Reply(status=500, body=b"oops"),
}
PERHAPS_BILLED = {
    "time-out": Reply(delay_s=1.5),
    "malformed JSON": Reply(body=b'{"choices": [{"message": {"content": "half'),
    "slow body": Reply(trickle_s=0.05),
    "dropped connection": Reply(drop=True),
    "cut off": Reply(body=b'{"choices": []}', headers={"Content-Length": "4000"}),
}
FAULTS = list((UNBILLED | PERHAPS_BILLED).values())
EACH = (50 * 2.5 + 3 * 10) / 1e6


@pytest.mark.parametrize("concurrency", [1, 16])
def test_every_answer_arrives_once_and_is_paid_once(tmp_path, concurrency):
    n = 4 * len(FAULTS)

    def behave(prompt, before):
        i = int(prompt.split("Question ")[1].split("?")[0])
        # Every other question goes well at once.
        return FAULTS[i // 2 % len(FAULTS)] if before == 0 and i % 2 else Reply(text=f"answer {i}")

    asked = [AnswerRequest(str(i), "s", f"Question {i}?", "evidence") for i in range(n)]
    with serving(behave) as server, AnswerCache(tmp_path / "c") as cache:
        settings = AnswerSettings(base_url=server.url, concurrency=concurrency, timeout_s=0.8, max_retries=3)
        reader = OpenAIReader(settings, "none", cache=cache, waits=Waits(0.01))
        answers = reader.answer(asked)
        assert [answer.answer for answer in answers] == [f"answer {i}" for i in range(n)]
        assert {answer.error for answer in answers} == {None}
        assert [answer.cost_usd for answer in answers] == pytest.approx([EACH] * n)
        assert len(cache) == n
        assert reader.ledger.spent_usd == pytest.approx(n * EACH)
        again = OpenAIReader(settings.model_copy(update={"max_cost_usd": 0.0}), "none", cache=cache).answer(asked)
        assert [answer.cached for answer in again] == [True] * n
        assert sorted(server.seen.values()) == [1] * (n // 2) + [2] * (n // 2)
    # Replies that got lost may have been billed and count against the limit; refusals do not.
    assert reader.ledger.unconfirmed_usd > 0


def test_what_was_refused_costs_nothing():
    with serving(lambda _prompt, before: Reply() if before else UNBILLED["429"]) as server:
        reader = OpenAIReader(AnswerSettings(base_url=server.url), "none", waits=Waits(0.01))
        reader.answer([AnswerRequest("q", "s", "Question 0?", "evidence")])
    assert (reader.ledger.spent_usd, reader.ledger.unconfirmed_usd) == (pytest.approx(EACH), 0.0)
