"""Questions written by a model: only those that are sound are kept, and the others are counted."""

from __future__ import annotations

import json

import pytest
from faulty_server import Reply, error_body, serving

from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.client import OpenAIReader
from zrag_core.answering.llm_questions import write_questions
from zrag_core.corpus.types import Document
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings

HARBOUR = Document("d1", "Harbour", "The harbour was built in 1804.\nIts lighthouse  is red. Boats come daily.")
SEOUL = Document("d2", "서울", "서울은 대한민국의 수도이다. 한강이 서울을 가로지른다.")


def line(question: object, evidence: object) -> str:
    return json.dumps({"question": question, "evidence": evidence}, ensure_ascii=False)


def write(replies, documents, route, **settings):
    """Serve one reply for each document, by its title."""

    def behave(prompt, _before):
        return next(reply for title, reply in replies.items() if title in prompt)

    with serving(behave) as server:
        values = AnswerSettings(base_url=server.url, model="writer", max_retries=0, **settings)
        result = write_questions(OpenAIReader(values, "none"), documents, 3, route=route)
        return result, server


def home(documents):
    """A route that knows where the questions of these tests belong."""
    return lambda question: next((d.id for d in documents if d.title in question), None)


def test_sound_questions_become_targets_in_both_languages():
    replies = {
        "Title: Harbour": Reply(text=line("When was the Harbour built?", "The harbour was built in 1804.")),
        "제목: 서울": Reply(text=line("서울은 어느 나라의 수도인가?", "서울은 대한민국의 수도이다.")),
    }
    documents = [HARBOUR, SEOUL]
    result, server = write(replies, documents, home(documents))
    assert [(t.query, t.evidence, t.document_ids, t.method, t.split) for t in result.targets] == [
        ("When was the Harbour built?", "The harbour was built in 1804.", ("d1",), "llm", "train"),
        ("서울은 어느 나라의 수도인가?", "서울은 대한민국의 수도이다.", ("d2",), "llm", "train"),
    ]
    assert len({t.id for t in result.targets}) == 2
    assert not result.rejected
    assert result.cost_usd == 0.0
    by_title = {body["messages"][1]["content"].split("\n")[0]: body for body in server.bodies}
    assert "Output 3 lines" in by_title["Title: Harbour"]["messages"][0]["content"]
    assert "3줄만" in by_title["제목: 서울"]["messages"][0]["content"]


def test_each_unsound_line_is_counted_under_its_reason():
    text = "\n".join(
        [
            "```json",
            line("When was the Harbour built?", "The harbour was built in 1804."),
            line("when was the harbour BUILT", "Boats come daily."),
            line("How red is the Harbour?", "Its lighthouse is very red."),
            line("Who comes daily?", "Boats come daily."),
            line("Harbour?", ""),
            line(3, "Boats come daily."),
            '["Harbour"]',
            '{"question": "Harbour',
            "Here are your questions:",
            "```",
        ]
    )
    result, _ = write({"": Reply(text=text)}, [HARBOUR], home([HARBOUR]))
    assert [t.query for t in result.targets] == ["When was the Harbour built?"]
    assert result.rejected == {
        "repeated question": 1,
        "evidence not in the document": 1,
        "leads elsewhere": 1,
        "no question or evidence": 3,
        "not JSON": 2,
    }


def test_evidence_is_given_back_as_it_stands_in_the_document():
    # The model evened out the white space; the target must still be verbatim text.
    text = line("What colour has the Harbour?", "built in 1804. Its lighthouse is red.")
    result, _ = write({"": Reply(text=text)}, [HARBOUR], home([HARBOUR]))
    assert result.targets[0].evidence == "built in 1804.\nIts lighthouse  is red."
    assert result.targets[0].evidence in HARBOUR.text


def test_one_failed_request_is_reported_and_the_others_kept():
    replies = {
        "Title: Harbour": Reply(status=400, body=error_body("too long")),
        "제목: 서울": Reply(text=line("서울의 강은?", "한강이 서울을 가로지른다.")),
    }
    documents = [HARBOUR, SEOUL]
    result, _ = write(replies, documents, home(documents))
    assert [t.document_ids for t in result.targets] == [("d2",)]
    assert result.rejected == {"request failed": 1}
    assert result.errors == ("document 'd1': HTTP 400: too long",)


def test_nothing_but_failures_is_an_error_with_a_remedy():
    with pytest.raises(AnsweringError, match=r"no document got questions.*too long.*llm_questions_per_document"):
        write({"": Reply(status=400, body=error_body("too long"))}, [HARBOUR, SEOUL], home([HARBOUR, SEOUL]))


def test_written_questions_are_cached(tmp_path):
    reply = Reply(text=line("When was the Harbour built?", "The harbour was built in 1804."))
    with serving(lambda *_: reply) as server, AnswerCache(tmp_path / "c") as cache:
        reader = OpenAIReader(AnswerSettings(base_url=server.url), "none", cache=cache)
        first = write_questions(reader, [HARBOUR], 2, route=home([HARBOUR]))
        again = write_questions(reader, [HARBOUR], 2, route=home([HARBOUR]))
        assert server.answered == 1
    assert first.cost_usd > 0.0
    assert again.cost_usd == 0.0
    assert again.targets == first.targets
