"""Prompts say what they must, hashes tell prompts apart, prices add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.answering.prices import Price, Usage, actual_cost, estimate_cost, load_prices, price_of, worst_case_cost
from zrag_core.answering.prompts import REFUSALS, build_messages, is_refusal, prompt_hash
from zrag_core.answering.types import Prompt
from zrag_core.errors import AnsweringError


@pytest.mark.parametrize("language", ["en", "ko"])
def test_evidence_prompt_holds_everything_and_binds_the_model_to_the_evidence(language):
    messages = build_messages("누가 $x ${y}?", "Evidence with $dollars and {braces}", language)
    assert [m["role"] for m in messages] == ["system", "user"]
    assert REFUSALS[language] in messages[0]["content"]
    assert "누가 $x ${y}?" in messages[1]["content"]
    assert "Evidence with $dollars and {braces}" in messages[1]["content"]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_only_closed_book_lets_the_model_use_its_own_knowledge(language):
    closed = build_messages("Who?", "", language, closed_book=True)
    empty = build_messages("Who?", "", language)
    assert closed != empty
    assert REFUSALS[language] not in closed[0]["content"]
    assert "<evidence>" in empty[1]["content"]
    assert "<evidence>" not in closed[1]["content"]
    assert closed == build_messages("Who?", "evidence that must not leak in", language, closed_book=True)


def test_unknown_language_is_one_clear_line():
    with pytest.raises(AnsweringError, match=r"'fr'.*en, ko"):
        build_messages("Qui?", "", "fr")


def test_hash_depends_on_each_ingredient_and_on_nothing_else():
    messages = build_messages("Who?", "Ada.", "en")
    base = prompt_hash("m", 0.0, 64, messages)
    others = [
        prompt_hash("m2", 0.0, 64, messages),
        prompt_hash("m", 0.5, 64, messages),
        prompt_hash("m", 0.0, 65, messages),
        prompt_hash("m", 0.0, 64, build_messages("Who?", "Ada", "en")),
        prompt_hash("m", 0.0, 64, build_messages("Who?", "Ada.", "ko")),
    ]
    assert len({base, *others}) == 6
    assert base == prompt_hash("m", 0, 64, [dict(reversed(m.items())) for m in messages])


@pytest.mark.parametrize(
    "answer",
    [
        "not in the evidence",
        "Not in the evidence.",
        "The answer is not in the evidence.",
        "증거에 없음",
        "증거에 없습니다.",
    ],
)
def test_refusals_are_recognised(answer):
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "1969",
        "the evidence",
        "증거",
        "in the evidence room",
        "Exhibits that were not in the evidence room of the old court in 1969",
    ],
)
def test_answers_are_no_refusals(answer):
    assert not is_refusal(answer)


def test_cost_of_a_million_tokens_is_the_list_price():
    for name, price in load_prices().models.items():
        found, _ = price_of(name, at_openai=True)
        assert found == price
        assert actual_cost(Usage(1_000_000, 0), price) == pytest.approx(price.input)
        assert actual_cost(Usage(0, 1_000_000), price) == pytest.approx(price.output)
        assert actual_cost(Usage(1_000_000, 0, 1_000_000), price) == pytest.approx(price.cached_input)
    assert price_of("gpt-4o", at_openai=False)[0] == Price(input=2.5, output=10.0, cached_input=1.25)


def test_unknown_model_is_unknown_at_openai_and_free_elsewhere():
    assert price_of("my-model", at_openai=True)[0] is None
    price, note = price_of("my-model", at_openai=False)
    assert price == Price(0.0, 0.0, 0.0)
    assert "free" in note
    prompt = Prompt(build_messages("Who?", "Ada.", "en"), 64)
    unknown = estimate_cost([prompt], "my-model", at_openai=True)
    assert unknown.cost_usd is None
    assert "estimate for my-model: unknown" in str(unknown)
    assert estimate_cost([prompt], "my-model", at_openai=False).cost_usd == 0.0


@given(st.text(max_size=200), st.integers(1, 500))
def test_worst_case_is_above_the_estimate_for_any_text(text, max_tokens):
    prompt = Prompt(build_messages(text, text, "ko"), max_tokens)
    price = load_prices().models["gpt-4o"]
    estimate = estimate_cost([prompt], "gpt-4o", at_openai=True)
    assert estimate.completion_tokens == max_tokens
    assert 0 < estimate.cost_usd < worst_case_cost(prompt, price)
