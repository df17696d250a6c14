"""The judge: what it is told, how strictly it is read, what it costs, and when there is none."""

from __future__ import annotations

import pytest
from faulty_server import Reply, error_body, serving
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.choice import choose_judge, choose_reader
from zrag_core.answering.judge import JudgeRequest, judge_messages, parse_verdict
from zrag_core.answering.ledger import SpendingLedger
from zrag_core.answering.types import AnswerRequest
from zrag_core.errors import AnsweringError
from zrag_core.settings import AnswerSettings, load_settings

KEY = {"OPENAI_API_KEY": "k-1"}
ADA = JudgeRequest("q1", "bm25", "Who wrote it?", ("Ada Lovelace", "Lovelace"), "It was Ada")
NONE = JudgeRequest("q2", "zrag", "누가 썼는가?", (), "증거에 없음", "ko")


def settings(server=None, judge="gpt-4o-mini", **values) -> AnswerSettings:
    return AnswerSettings(base_url=server and server.url, judge={"model": judge}, max_retries=1, **values)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("CORRECT", "correct"),
        ("incorrect", "incorrect"),
        (" NOT_ATTEMPTED\n", "not_attempted"),
        ("Not attempted.", "not_attempted"),
        ("not-attempted", "not_attempted"),
        ("**CORRECT**", "correct"),
        ('"INCORRECT".', "incorrect"),
        ("", None),
        ("A", None),
        ("NOT CORRECT", None),
        ("The answer is CORRECT", None),
        ("CORRECT or INCORRECT", None),
        ("CORRECT INCORRECT", None),
        ("NOT_CORRECT", None),
        ("정답", None),
        ("INCORRECT: it names something else", None),
    ],
)
def test_a_verdict_is_read_only_where_the_reply_is_nothing_else(reply, verdict):
    assert parse_verdict(reply) == verdict


@given(st.text(max_size=40))
def test_any_other_reply_is_no_verdict(reply):
    bare = "".join(c for c in reply.lower() if c.isalpha())
    assert (parse_verdict(reply) is None) or bare in ("correct", "incorrect", "notattempted")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_prompt_holds_question_answers_and_all_three_grades(language):
    request = JudgeRequest("q", "s", "누가 $x?", ("$5", "five {dollars}"), "${y} dollars", language)
    system, user = (message["content"] for message in judge_messages(request))
    for grade in ("CORRECT", "INCORRECT", "NOT_ATTEMPTED"):
        assert f"- {grade}:" in system
    for text in ("누가 $x?", "$5\nfive {dollars}", "${y} dollars"):
        assert text in user
    unanswerable = judge_messages(JudgeRequest("q", "s", "Who?", (), "nobody", language))[1]["content"]
    assert "<gold>" in user
    assert "<gold>" not in unanswerable
    assert "CORRECT" in unanswerable


def test_verdicts_come_with_tokens_and_cost_and_are_not_paid_twice(tmp_path):
    def behave(prompt, _before):
        return Reply(text="INCORRECT" if "Ada" in prompt else "CORRECT")

    with serving(behave) as server:
        for paid in (True, False):
            judge = choose_judge(settings(server), KEY, tmp_path / "answers.sqlite")
            assert judge.estimate([ADA, NONE]).to_send == (2 if paid else 0)
            first, second = judge.judge([ADA, NONE])
            assert (first.verdict, second.verdict) == ("incorrect", "correct")
            assert (first.question_id, first.system, first.judge_model) == ("q1", "bm25", "gpt-4o-mini")
            assert first.cost_usd == pytest.approx((50 * 0.15 + 3 * 0.6) / 1e6 if paid else 0.0)
            assert (first.prompt_tokens, first.completion_tokens, first.cached) == (50, 3, not paid)
        assert sum(server.seen.values()) == 2
        body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("gpt-4o-mini", 0.0, 16)


def test_a_reply_without_a_verdict_is_an_error_on_its_row_and_on_no_other():
    def behave(prompt, _before):
        if "누가" in prompt:
            return Reply(status=400, body=error_body("too long"))
        return Reply(text="I would say CORRECT" if "It was Ada" in prompt else "CORRECT")

    other = JudgeRequest("q3", "bm25", "Who wrote it?", ("Ada",), "Ada")
    with serving(behave) as server:
        judged = choose_judge(settings(server), KEY).judge([ADA, NONE, other])
    assert [j.verdict for j in judged] == [None, None, "correct"]
    assert judged[0].error == "no verdict in the judge's reply: 'I would say CORRECT'"
    assert judged[0].cost_usd > 0
    assert judged[1].error == "HTTP 400: too long"


def test_answers_and_verdicts_share_one_spending_limit():
    usage = {"prompt_tokens": 400, "completion_tokens": 64}
    asked = [AnswerRequest(str(i), "s", f"Question {i}?", "evidence") for i in range(60)]
    each = (400 * 2.5 + 64 * 10) / 1e6
    with serving(lambda *_: Reply(text="CORRECT", usage=usage)) as server:
        chosen = settings(server, judge="gpt-4o", max_cost_usd=20 * each)
        ledger = SpendingLedger(chosen.max_cost_usd)
        answers = choose_reader(chosen, KEY, ledger=ledger).answer(asked[:10])
        requests = [JudgeRequest(str(i), "s", f"Question {i}?", ("gold",), "CORRECT") for i in range(60)]
        judged = choose_judge(chosen, KEY, ledger=ledger).judge(requests)
        assert sum(server.seen.values()) * each <= chosen.max_cost_usd
    verdicts = [j for j in judged if j.verdict]
    assert len(answers) == 10
    assert 5 <= len(verdicts) <= 10
    assert {j.error for j in judged} == {None, "spending limit"}
    assert ledger.spent_usd == pytest.approx((10 + len(verdicts)) * each)


def test_there_is_no_judge_unless_asked_for():
    assert choose_judge(AnswerSettings(), KEY) is None
    assert AnswerSettings().judge.model is None


def test_a_judge_needs_a_key_or_a_server_whoever_answers():
    with pytest.raises(AnsweringError, match=r"^answers\.judge\.model: the judge needs a key.*export OPENAI_API_KEY"):
        choose_judge(settings(reader="offline"), {})
    own = AnswerSettings(judge={"model": "m", "base_url": "http://h:1/v1", "api_key_env": "JUDGE_KEY"})
    assert choose_judge(own, {}).model == "m"


def test_the_judge_may_be_at_another_server_with_a_key_of_its_own():
    with serving(lambda *_: Reply(text="CORRECT")) as judging, serving(lambda *_: Reply()) as answering:
        chosen = AnswerSettings(
            base_url=answering.url,
            judge={"model": "gpt-4o", "base_url": judging.url, "api_key_env": "JUDGE_KEY"},
        )
        environ = KEY | {"JUDGE_KEY": "k-2"}
        choose_judge(chosen, environ).judge([ADA])
        choose_reader(chosen, environ).answer([AnswerRequest("q", "s", "Who?", "Ada")])
        assert (judging.keys, answering.keys) == ({"Bearer k-2"}, {"Bearer k-1"})


@pytest.mark.parametrize(("field", "value"), [("api_key_env", "sk-secret"), ("base_url", "http://u:secret@h/v1")])
def test_settings_do_not_repeat_a_judges_key(field, value):
    with pytest.raises(Exception, match=rf"answers\.judge\.{field}") as raised:
        load_settings({"answers": {"judge": {"model": "m", field: value}}})
    assert "secret" not in str(raised.value)


def test_batched_verdicts(tmp_path):
    from batch_server import serving_batches

    with serving_batches(lambda _body: "CORRECT") as server, AnswerCache(tmp_path / "c"):
        judge = choose_judge(settings(server, batch=True), KEY, tmp_path / "c")
        assert [j.verdict for j in judge.judge([ADA, NONE])] == ["correct", "correct"]
        assert len(server.batches) == 1
