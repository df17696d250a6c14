"""The light model is told the global memory, question and draft; what goes wrong stays with its question."""

from __future__ import annotations

import pytest
from faulty_server import Reply, error_body, serving

from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.client import OpenAIReader
from zrag_core.corpus.types import Question
from zrag_core.errors import AnsweringError
from zrag_core.memorag.clue_memory import Usage
from zrag_core.memorag.corpus_summaries import CorpusSummaries, build_summaries
from zrag_core.memorag.summary_memory import SummaryMemory, light_settings
from zrag_core.settings import AnswerSettings, MemoragSettings

SUMMARIES = CorpusSummaries(
    (("Orla Venn won the Halden Prize.", "해림상은 서린도에서 준다."), ("A collection on prizes.",)), 0, 0, Usage()
)
ENGLISH = Question("q0", "Where is the prize of Orla Venn awarded?")
KOREAN = Question("q1", "한소율의 상은 어디에서 주나?", language="ko")


def reply(prompt, _before):
    """Drafts and clues in the language of the prompt."""
    if "Write two or three clues" in prompt:
        return Reply(text="1. Which prize did Orla Venn win?\n2. The Halden Prize is awarded in")
    if "단서를 두세 개" in prompt:
        return Reply(text="- 한소율이 받은 상은?\n- 해림상은 해마다")
    return Reply(text="해림상은 서린도에서 준다." if "초안" in prompt else "The Halden Prize, in Tessamor.")


def memory_at(server, cache=None, **settings):
    values = light_settings(AnswerSettings(base_url=server.url, max_retries=0, **settings), MemoragSettings())
    return SummaryMemory(OpenAIReader(values, "none", cache=cache), SUMMARIES, MemoragSettings())


def test_drafts_and_clues_in_both_languages():
    with serving(reply) as server:
        memory = memory_at(server)
        drafts = memory.draft([ENGLISH, KOREAN])
        clues = memory.clues([ENGLISH, KOREAN], drafts)
    assert [draft.text for draft in drafts] == ["The Halden Prize, in Tessamor.", "해림상은 서린도에서 준다."]
    assert [own.lines for own in clues] == [
        ("Which prize did Orla Venn win?", "The Halden Prize is awarded in"),
        ("한소율이 받은 상은?", "해림상은 해마다"),
    ]
    assert {(body["model"], body["temperature"]) for body in server.bodies} == {("gpt-4o-mini", 0.3)}
    for body in server.bodies:
        system, user = (message["content"] for message in body["messages"])
        language = KOREAN if "질문:" in user else ENGLISH
        assert language.question in user
        assert ("메모" in system) == (language is KOREAN)
        # Page first, details behind it, the same in every prompt.
        assert "A collection on prizes.\n\nOrla Venn won the Halden Prize.\n\n해림상은 서린도에서 준다." in system
    drafted = [body for body in server.bodies if "clues" in body["messages"][1]["content"]]
    assert (
        "Draft of an answer, which may be wrong: The Halden Prize, in Tessamor." in drafted[0]["messages"][1]["content"]
    )


def test_each_question_knows_what_it_cost(tmp_path):
    each = (50 * 0.15 + 3 * 0.60) / 1e6
    with serving(reply) as server, AnswerCache(tmp_path / "answers") as cache:
        memory = memory_at(server, cache)
        drafts = memory.draft([ENGLISH, KOREAN])
        clues = memory.clues([ENGLISH, KOREAN], drafts)
        again = memory_at(server, cache)
        assert again.clues([ENGLISH, KOREAN], again.draft([ENGLISH, KOREAN]))[0].lines == clues[0].lines
        assert again.draft([ENGLISH])[0].usage.cost_usd == 0.0
        assert server.answered == 4
    for usage in [item.usage for item in (*drafts, *clues)]:
        assert usage.cost_usd == pytest.approx(each)
        assert (usage.prompt_tokens, usage.completion_tokens) == (50, 3)
    total = drafts[0].usage + clues[0].usage
    assert total.cost_usd == pytest.approx(2 * each)
    assert (drafts[0].usage + Usage(None, 1, 1)).cost_usd is None


def test_a_failed_draft_asks_for_no_clues_and_leaves_the_others_alone():
    def behave(prompt, before):
        return Reply(status=400, body=error_body("filtered")) if "Orla" in prompt else reply(prompt, before)

    with serving(behave) as server:
        memory = memory_at(server)
        drafts = memory.draft([ENGLISH, KOREAN])
        clues = memory.clues([ENGLISH, KOREAN], drafts)
        assert server.answered == 3
    assert (drafts[0].text, drafts[0].error) == ("", "HTTP 400: filtered")
    assert (clues[0].lines, clues[0].usage) == ((), Usage())
    assert clues[1].lines == ("한소율이 받은 상은?", "해림상은 해마다")


def test_where_clues_fail_the_draft_is_looked_for():
    def behave(prompt, before):
        return Reply(status=400, body=error_body("filtered")) if "clues" in prompt else reply(prompt, before)

    with serving(behave) as server:
        memory = memory_at(server)
        (clues,) = memory.clues([ENGLISH], memory.draft([ENGLISH]))
    assert clues.lines == ("The Halden Prize, in Tessamor.",)
    assert clues.error == "HTTP 400: filtered"


def test_there_is_no_prompt_in_other_languages():
    with serving(reply) as server, pytest.raises(AnsweringError, match=r"no 'recall' prompt in language 'fr'.*en, ko"):
        memory_at(server).draft([Question("q", "Où ?", language="fr")])


def test_built_from_a_corpus(tmp_path, harbour):
    with serving(
        lambda prompt, _: Reply(text="Prizes and places.") if "passages>" in prompt else reply(prompt, 0)
    ) as server:
        completer = OpenAIReader(light_settings(AnswerSettings(base_url=server.url), MemoragSettings()), "none")
        summaries = build_summaries(harbour, completer, tmp_path, MemoragSettings())
        memory = SummaryMemory(completer, summaries, MemoragSettings())
        memory.draft([ENGLISH])
        assert "Prizes and places." in server.bodies[-1]["messages"][0]["content"]
    assert memory.figures["summaries_made"] == summaries.made == 1
