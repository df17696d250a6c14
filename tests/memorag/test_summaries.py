"""The summary hierarchy: everything is read once, nothing is paid for twice, an update costs what changed."""

from __future__ import annotations

import re
from zlib import crc32

import pytest
from faulty_server import Reply, error_body, serving

from zrag_core.answering.cache import AnswerCache
from zrag_core.answering.client import OpenAIReader
from zrag_core.corpus.types import Document
from zrag_core.errors import AnsweringError, CheckpointError, CorpusError
from zrag_core.memorag.clue_memory import Usage
from zrag_core.memorag.corpus_summaries import CorpusSummaries, build_summaries
from zrag_core.memorag.summary_memory import light_settings
from zrag_core.settings import AnswerSettings, MemoragSettings
from zrag_core.text import evidence_tokens

DOCUMENTS = [
    Document(f"d{n}", f"Village{n}", f"Village{n} has {n * 37 % 101} wells. It lies on a hill.") for n in range(60)
]
SIZES = MemoragSettings(group_tokens=100, summary_tokens=30, page_tokens=60)


def villages(text):
    return sorted({int(number) for number in re.findall(r"[Vv]illage(\d+)", text)})


def note(prompt, _before):
    """A summary that names every village that it is about."""
    return Reply(text="On " + ", ".join(f"village{n}" for n in villages(prompt)) + ".")


def short_note(prompt, _before):
    """A summary as short as asked for."""
    return Reply(text=f"{len(villages(prompt))} from village{villages(prompt)[0]} on, {crc32(prompt.encode())} wells.")


def build(server, documents, folder, *, cache=None, sizes=SIZES, **settings):
    values = light_settings(AnswerSettings(base_url=server.url, max_retries=0, **settings), sizes)
    return build_summaries(documents, OpenAIReader(values, "none", cache=cache), folder, sizes)


def test_every_passage_goes_into_one_summary_and_every_summary_into_the_next(tmp_path):
    with serving(note) as server:
        memory = build(server, DOCUMENTS, tmp_path)
        bodies = server.bodies
    assert memory.made == len(bodies) == len(list(tmp_path.iterdir()))
    leaves = [body for body in bodies if "<passages>" in body["messages"][1]["content"]]
    assert sorted(n for body in leaves for n in villages(body["messages"][1]["content"])) == list(range(60))
    assert len(leaves) == len(memory.levels[0])
    assert len(memory.levels) >= 3
    for level in memory.levels:
        # In corpus order, nothing left out and nothing twice.
        assert [n for summary in level for n in villages(summary)] == list(range(60))
    sizes = [len(level) for level in memory.levels]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1
    for body in bodies:
        prompt = body["messages"][1]["content"]
        parts = prompt.split("\n\n")
        assert evidence_tokens(prompt) <= SIZES.group_tokens + 20 or len(parts) <= 2


def test_the_page_may_be_longer_than_the_other_summaries(tmp_path):
    with serving(note) as server:
        build(server, DOCUMENTS, tmp_path)
        lengths = [
            (body["max_tokens"], re.search(r"at most (\d+) words", body["messages"][0]["content"])[1])
            for body in server.bodies
        ]
    assert set(lengths[:-1]) == {(60, "20")}
    assert lengths[-1] == (120, "40")


def test_a_corpus_of_one_group_is_one_page(tmp_path):
    with serving(note) as server:
        memory = build(server, DOCUMENTS[:3], tmp_path)
    assert memory.levels == (("On village0, village1, village2.",),)
    assert server.bodies[0]["max_tokens"] == 120


def test_built_once(tmp_path):
    with serving(note) as server:
        first = build(server, DOCUMENTS, tmp_path)
        asked = server.answered
        again = build(server, DOCUMENTS, tmp_path)
        assert server.answered == asked
    assert again.levels == first.levels
    assert (again.made, again.reused, again.usage) == (0, first.made, Usage())


def test_an_update_pays_for_what_changed_and_wipes_nothing(tmp_path):
    before = [Document(f"d{n}", f"Village{n}", f"Village{n} has {n * 37 % 101} wells.") for n in range(200)]
    added = [*before[:20], Document("new", "Village999", "Village999 burnt down in 1804."), *before[20:]]
    with serving(short_note) as server:
        first = build(server, before, tmp_path)
        update = build(server, added, tmp_path)
        fresh = build(server, added, tmp_path / "fresh")
        back = build(server, before, tmp_path)
    assert update.levels == fresh.levels
    assert update.made <= fresh.made / 3
    assert update.reused + update.made == fresh.made
    assert (back.made, back.levels) == (0, first.levels)


def test_what_was_made_before_a_failure_is_not_asked_for_again(tmp_path):
    fails = {17, 44}

    def sometimes(prompt, before):
        return Reply(status=400, body=error_body("too long")) if fails & set(villages(prompt)) else note(prompt, before)

    with serving(sometimes) as server:
        with pytest.raises(
            AnsweringError, match=r"2 of \d+ summaries could not be made: HTTP 400: too long.*run again"
        ):
            build(server, DOCUMENTS, tmp_path)
        kept = len(list(tmp_path.iterdir()))
        assert kept == server.answered - 2
        fails.clear()
        memory = build(server, DOCUMENTS, tmp_path)
        assert memory.reused == kept
        # Each prompt was answered once, and those that failed once more.
        assert sorted(server.seen.values()) == [1] * (len(server.seen) - 2) + [2, 2]


def test_the_spending_limit_holds_and_a_higher_one_goes_on(tmp_path):
    with serving(note) as server:
        with pytest.raises(AnsweringError, match="spending limit"):
            build(server, DOCUMENTS, tmp_path, max_cost_usd=0.0003, concurrency=1)
        before = server.answered
        assert 0 < before == len(list(tmp_path.iterdir()))
        memory = build(server, DOCUMENTS, tmp_path)
        assert set(server.seen.values()) == {1}
    assert memory.reused == before


def test_costs_are_counted_once(tmp_path):
    with serving(note) as server, AnswerCache(tmp_path / "answers.sqlite") as cache:
        memory = build(server, DOCUMENTS, tmp_path / "a", cache=cache)
        again = build(server, DOCUMENTS, tmp_path / "b", cache=cache)
    # gpt-4o-mini: 0.15 and 0.60 USD per million tokens; the server counts 50 and 3 for each request.
    assert memory.usage.cost_usd == pytest.approx(memory.made * (50 * 0.15 + 3 * 0.60) / 1e6)
    assert (memory.usage.prompt_tokens, memory.usage.completion_tokens) == (50 * memory.made, 3 * memory.made)
    # From the answer cache, as after a build that was killed before it wrote its summaries down.
    assert again.levels == memory.levels
    assert again.usage.cost_usd == 0.0


def test_equal_groups_are_summarised_once(tmp_path):
    twins = [Document(f"d{n}", "Village1", "Village1 has one well. " * 20) for n in range(4)]
    with serving(note) as server:
        memory = build(server, twins, tmp_path)
    assert memory.levels[0] == ("On village1.",) * 4
    assert memory.made == server.answered == 2


def test_korean_passages_get_a_korean_prompt(tmp_path):
    documents = [Document("d0", "서린도", "서린도는 남쪽 바다에 있는 섬이다.")]
    with serving(lambda *_: Reply(text="서린도는 섬이다.")) as server:
        memory = build(server, documents, tmp_path)
        system, user = (message["content"] for message in server.bodies[0]["messages"])
    assert "80자 이내" in system
    assert "서린도\n서린도는 남쪽 바다에 있는 섬이다." in user
    assert memory.text(100) == "서린도는 섬이다."
    (file,) = tmp_path.iterdir()
    assert "서린도는 섬이다." in file.read_text(encoding="utf-8")


def test_a_reply_of_thinking_alone_is_no_summary(tmp_path):
    thinking = "<think>villages, villages</think>"
    with serving(lambda *_: Reply(text=thinking)) as server, pytest.raises(AnsweringError, match="reasoning"):
        build(server, DOCUMENTS[:3], tmp_path)
    with serving(lambda *_: Reply(text=f"{thinking}\nThree villages.")) as server:
        assert build(server, DOCUMENTS[:3], tmp_path).text(50) == "Three villages."


@pytest.mark.parametrize("useless", ["", "<think>villages, villages</think>"])
def test_a_useless_reply_does_not_stay_in_the_cache(tmp_path, useless):
    def behave(prompt, before):
        return Reply(text=useless) if before == 0 and villages(prompt) == [0, 1, 2] else note(prompt, before)

    with serving(behave) as server, AnswerCache(tmp_path / "answers") as cache:
        for _ in range(2):
            with pytest.raises(AnsweringError, match=r"could not be made.*run again \(these are asked for anew\)"):
                build(server, DOCUMENTS[:3], tmp_path / "a", cache=cache)
            server.seen.clear()  # as if it was useless once more
        server.behave = note
        assert build(server, DOCUMENTS[:3], tmp_path / "a", cache=cache).text(50) == "On village0, village1, village2."
        # What was of use is paid for once: another folder is filled from the cache.
        answered = server.answered
        assert build(server, DOCUMENTS[:3], tmp_path / "b", cache=cache).usage.cost_usd == 0.0
        assert server.answered == answered == 3


@pytest.mark.parametrize("content", ["{", '"text"', '{"format_version": 1}', '{"summary": "x", "format_version": 9}'])
def test_a_damaged_summary_is_named(tmp_path, content):
    with serving(note) as server:
        build(server, DOCUMENTS[:3], tmp_path)
        (file,) = tmp_path.iterdir()
        file.write_text(content)
        with pytest.raises(CheckpointError, match=rf"{file.name}.*delete the file"):
            build(server, DOCUMENTS[:3], tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with serving(note) as server, pytest.raises(CheckpointError, match="file"):
        build(server, DOCUMENTS[:3], blocked)


def test_nothing_to_summarise(tmp_path):
    with serving(note) as server, pytest.raises(CorpusError, match="nothing to summarise"):
        build(server, [], tmp_path)


def test_as_much_detail_as_fits():
    memory = CorpusSummaries(
        (("a" * 40, "b" * 40, "c" * 40, "d" * 40), ("e" * 40, "f" * 40), ("page " * 8,)), 0, 0, Usage()
    )
    assert memory.text(60).split() == ["page"] * 8 + ["a" * 40, "b" * 40, "c" * 40, "d" * 40]
    assert memory.text(51).split() == ["page"] * 8 + ["e" * 40, "f" * 40]
    assert memory.text(30).split() == ["page"] * 8
    assert memory.text(5).split() == ["page"] * 4
