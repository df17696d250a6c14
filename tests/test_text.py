import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.text import (
    detect_language,
    evidence_tokens,
    fold_width,
    is_blank,
    normalize,
    search_terms,
    truncate_to_tokens,
    words,
)

TEXT = st.text(st.sampled_from(list("ab Z.!? \n\t\"')1,한국어을é漢字。…-*#")), max_size=200)


def test_search_terms_split_korean_into_bigrams_and_keep_words():
    assert search_terms("COVID-19 서울에서 2,000") == ["covid", "19", "서울", "울에", "에서", "2", "000"]
    assert search_terms("강") == ["강"]
    assert search_terms("Z메모리v2") == ["z", "메모", "모리", "v2"]


def test_a_particle_does_not_hide_a_korean_word():
    assert set(search_terms("부산은")) & set(search_terms("부산"))
    assert not set(words("부산은")) & set(words("부산"))


def test_words_fold_case_and_width():
    assert words("Ｈello STRASSE straße") == ["hello", "strasse", "strasse"]


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abcd", 1), ("abcde", 2), ("한국", 2), ("é", 1)])
def test_evidence_tokens_are_bytes_over_four_rounded_up(text, tokens):
    assert evidence_tokens(text) == tokens


@given(TEXT, st.integers(0, 40))
def test_truncation_is_a_prefix_within_the_budget(text, budget):
    cut = truncate_to_tokens(text, budget)
    assert text.startswith(cut)
    assert evidence_tokens(cut) <= budget or cut == text
    assert evidence_tokens(text) > budget or cut == text


def test_truncation_keeps_whole_words_where_it_can():
    assert truncate_to_tokens("alpha beta gamma delta", 3) == "alpha beta"
    assert truncate_to_tokens("가나다라마바사", 2) == "가나"


def test_normalize_composes_and_drops_controls():
    assert normalize("é\x07\t한") == "é\t한"


def test_normalize_drops_what_nobody_sees_and_keeps_joiners():
    assert normalize("\ufeffTam\u00adsin\u200b\u2060 e\u200b\u0301") == "Tamsin é"
    assert normalize("می\u200cخواهم") == "می\u200cخواهم"


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\u3164 \u2800", "\u200d\ufeff"])
def test_text_without_anything_visible_is_blank(text):
    assert is_blank(text)
    assert not is_blank(f"{text}.")


def test_width_is_folded_and_nothing_else():
    assert fold_width("Ｔａｍ　５？ ﾃｽﾄ m² ①") == "Tam 5? テスト m² ①"


@pytest.mark.parametrize(
    ("text", "language"), [("Hello there", "en"), ("안녕하세요", "ko"), ("Seoul은 큰 도시", "ko"), ("123", "en")]
)
def test_language(text, language):
    assert detect_language(text) == language
