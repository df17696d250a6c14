"""ROUGE-L against the rouge-score package, and in Korean, where that package has nothing to say."""

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from zrag_core.evaluation.metrics.rouge import rouge_l

ORACLE = RougeScorer(["rougeL"], use_stemmer=False)


def oracle(prediction: str, reference: str) -> float:
    return ORACLE.score(reference, prediction)["rougeL"].fmeasure


def test_a_thousand_random_pairs_of_sentences():
    generator = random.Random(0)
    vocabulary = "The lake of Orla lies in the north; it's 40.5 m deep, x_y U.S. weavers' Tarn-based".split()
    for _ in range(1000):
        prediction, reference = (" ".join(generator.choices(vocabulary, k=generator.randint(0, 40))) for _ in "ab")
        assert rouge_l(prediction, reference) == pytest.approx(oracle(prediction, reference), abs=1e-12)


@settings(max_examples=1000, deadline=None)
@given(st.text(string.printable, max_size=60), st.text(string.printable, max_size=60))
def test_all_ascii_text(prediction, reference):
    assert rouge_l(prediction, reference) == pytest.approx(oracle(prediction, reference), abs=1e-12)


def test_where_it_differs_from_the_package_on_purpose():
    assert oracle("café", "cafe") == 0.0
    assert oracle("caf\u00e9 noir", "caf noir") == 1.0  # the package drops the accented letter
    assert rouge_l("caf\u00e9 noir", "caf noir") == 0.5
    assert rouge_l("cafe\u0301", "caf\u00e9") == 1.0  # composed and decomposed are the same word
    assert oracle("서울은 수도이다", "서울은 수도이다") == 0.0


def test_korean():
    assert rouge_l("서울은 한국의 수도이다.", "서울은 한국의 수도이다") == 1.0
    assert rouge_l("서울은 큰 도시이다", "부산은 큰 도시이다") == pytest.approx(2 / 3)
    assert rouge_l("수도이다 서울은", "서울은 수도이다") == 0.5
    assert rouge_l("", "서울") == rouge_l("서울", "") == rouge_l("", "") == 0.0
