"""Korean particles and English articles, by table and against an independent reading of the text."""

import re
import unicodedata

import pytest
from generated import generate_documents
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.corpus.almanac.grammar import PARTICLES, EnglishForm, KoreanForm, final_consonant, particle
from zrag_core.corpus.almanac.lexicon import load_lexicon
from zrag_core.corpus.almanac.questions import generate_almanac

CASES = [
    # word, 은/는, 이/가, 을/를, 과/와, 으로/로, 이다/다, 이었/였
    ("벨하임", "은", "이", "을", "과", "으로", "이다", "이었"),
    ("도리아", "는", "가", "를", "와", "로", "다", "였"),
    ("서울", "은", "이", "을", "과", "로", "이다", "이었"),  # ㄹ takes 로
    ("부엌", "은", "이", "을", "과", "으로", "이다", "이었"),
    ("값", "은", "이", "을", "과", "으로", "이다", "이었"),
    ("1921년", "은", "이", "을", "과", "으로", "이다", "이었"),
    ("312쪽", "은", "이", "을", "과", "으로", "이다", "이었"),
    ("2,400미터", "는", "가", "를", "와", "로", "다", "였"),
    ("1", "은", "이", "을", "과", "로", "이다", "이었"),  # 일
    ("2", "는", "가", "를", "와", "로", "다", "였"),  # 이
    ("3", "은", "이", "을", "과", "으로", "이다", "이었"),  # 삼
    ("6", "은", "이", "을", "과", "으로", "이다", "이었"),  # 육
    ("8", "은", "이", "을", "과", "로", "이다", "이었"),  # 팔
    ("10", "은", "이", "을", "과", "으로", "이다", "이었"),  # 십, and 영 alike
    ("《은빛 과수원》", "은", "이", "을", "과", "으로", "이다", "이었"),
    ("《마지막 편지》", "는", "가", "를", "와", "로", "다", "였"),
    ("「길」", "은", "이", "을", "과", "로", "이다", "이었"),
    ("Zoe", "는", "가", "를", "와", "로", "다", "였"),
    ("", "는", "가", "를", "와", "로", "다", "였"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0] or "empty")
def test_particles_follow_the_last_sound(case):
    word, *expected = case
    assert [particle(word, kind) for kind in ("은", "이", "을", "과", "으로", "이다", "이었")] == expected


@given(st.characters(min_codepoint=ord("가"), max_codepoint=ord("힣")))
def test_final_consonants_agree_with_unicode_decomposition(syllable):
    jamo = unicodedata.normalize("NFD", syllable)
    assert (final_consonant(syllable) == 0) == (len(jamo) == 2)
    assert (final_consonant(syllable) == 8) == jamo.endswith("\u11af")
    assert format(KoreanForm(syllable), "은") == syllable + ("은" if len(jamo) == 3 else "는")


def test_an_unknown_particle_is_an_error():
    with pytest.raises(KeyError):
        format(KoreanForm("길"), "고")


@pytest.mark.parametrize("pool", ["skill", "evaluation"])
def test_korean_templates_never_write_a_particle_by_hand(pool):
    # After a filled-in word only sound-independent endings may be typed out.
    by_sound = re.compile(r"\{\w+\}(은|는|이|가|을|를|과|와|으로|로|이다|다|였|이었)(?=[ .,?]|$)")
    lexicon = load_lexicon("ko", pool)
    for attributes in lexicon.phrasings.values():
        for phrasings in attributes.values():
            for text in phrasings.say + phrasings.ask_train + phrasings.ask_held_out + phrasings.links:
                assert not by_sound.search(text), text
                assert all(spec in PARTICLES for spec in re.findall(r"\{\w+:(\w+)\}", text)), text


def test_names_in_korean_texts_carry_the_right_particles():
    pairs = {"은": True, "는": False, "을": True, "를": False, "과": True, "와": False, "이": True, "가": False}
    checked = 0
    corpus = generate_almanac(200, "ko")
    texts = [document.text for document in corpus.documents] + [question.question for question in corpus.questions]
    titles = sorted({document.title for document in corpus.documents})
    for text in texts:
        for title in (title for title in titles if title in text):
            for found in re.findall(re.escape(title) + r"》?([은는을를과와이가]) ", text):
                assert (len(unicodedata.normalize("NFD", title[-1])) == 3) == pairs[found], text
                checked += 1
    assert checked > 1_000


@pytest.mark.parametrize(
    ("word", "article"), [("owl", "an owl"), ("grey owl", "a grey owl"), ("Old owl", "an Old owl"), ("pony", "a pony")]
)
def test_english_articles(word, article):
    assert f"{EnglishForm(word):a}" == article
    assert f"{EnglishForm(word)}" == word


def test_english_rejects_an_unknown_form():
    with pytest.raises(ValueError, match="unknown English form 'x'"):
        format(EnglishForm("owl"), "x")


@pytest.mark.parametrize("pool", ["skill", "evaluation"])
def test_english_sentences_are_well_formed(pool):
    for document in generate_documents(300, "en", 1, pool):
        for sentence in document.sentences:
            text = sentence.text
            assert text[0].isupper() or text[0].isdigit(), text
            assert text.endswith(".")
            assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n (?!hour)[^aeiouAEIOU]|\bthe the\b|  |[{}()|]| [.,]", text), (
                text
            )
