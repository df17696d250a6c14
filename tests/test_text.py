import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.text import (
    detect_language,
    evidence_tokens,
    normalize,
    search_terms,
    split_sentences,
    truncate_to_tokens,
    words,
)

TEXT = st.text(st.sampled_from(list("ab Z.!? \n\t\"')1,한국어을é漢字。…-*#")), max_size=200)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. J. Smith met Mr. Lee at 3.5 km. He left.", ["Dr. J. Smith met Mr. Lee at 3.5 km.", "He left."]),
        ('"Yes!" he said. Then he left.', ['"Yes!" he said.', "Then he left."]),
        ("그는 서울에서 태어났다. 1990년에 상을 받았다.", ["그는 서울에서 태어났다.", "1990년에 상을 받았다."]),
        ("Title\n\nBody goes on", ["Title", "Body goes on"]),
        ("- one\n- two", ["- one", "- two"]),
        ("東京は都市です。 人が多い。", ["東京は都市です。", "人が多い。"]),
        ("no end mark", ["no end mark"]),
        ("   ", []),
    ],
)
def test_sentences(text, expected):
    assert [span.text for span in split_sentences(text)] == expected


@given(TEXT)
def test_sentences_are_verbatim_ordered_and_lose_nothing(text):
    spans = split_sentences(text)
    assert all(text[span.start : span.end] == span.text for span in spans)
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
    assert "".join("".join(span.text.split()) for span in spans) == "".join(text.split())


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


@pytest.mark.parametrize(
    ("text", "language"), [("Hello there", "en"), ("안녕하세요", "ko"), ("Seoul은 큰 도시", "ko"), ("123", "en")]
)
def test_language(text, language):
    assert detect_language(text) == language
