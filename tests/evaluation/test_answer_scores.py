"""EM and F1 against the official scripts of SQuAD 1.1, SQuAD 2.0 and KorQuAD 1.0, written down from their algorithms.

The two scripts of SQuAD normalise alike and take the best over the golden answers; where prediction or golden answer is
empty after normalisation, 1.1 gives an F1 of 0 and 2.0 compares them, and 2.0 leaves out golden answers that are empty
beside others. The product follows 2.0.
"""

import random
import re
import string
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zrag_core.evaluation.metrics.answer_match import is_refusal, score_answer


def squad_normalize(text):
    text = "".join(ch for ch in text.lower() if ch not in set(string.punctuation))
    text = re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)
    return " ".join(text.split())


def squad_f1(gold, prediction):
    gold_tokens, predicted_tokens = squad_normalize(gold).split(), squad_normalize(prediction).split()
    same = sum((Counter(gold_tokens) & Counter(predicted_tokens)).values())
    if not gold_tokens or not predicted_tokens:
        return int(gold_tokens == predicted_tokens)
    if same == 0:
        return 0
    precision, recall = same / len(predicted_tokens), same / len(gold_tokens)
    return 2 * precision * recall / (precision + recall)


def squad_golds(golds, normalize):
    return [gold for gold in golds if normalize(gold)] or [""]


def squad_v1_f1(gold, prediction):
    gold_tokens, predicted_tokens = squad_normalize(gold).split(), squad_normalize(prediction).split()
    same = sum((Counter(predicted_tokens) & Counter(gold_tokens)).values())
    if same == 0:
        return 0
    precision, recall = 1.0 * same / len(predicted_tokens), 1.0 * same / len(gold_tokens)
    return (2 * precision * recall) / (precision + recall)


def korquad_normalize(text):
    for mark in ("'", '"', "《", "》", "<", ">", "〈", "〉", "(", ")", "‘", "’"):
        text = text.replace(mark, " ")
    text = "".join(ch for ch in text.lower() if ch not in set(string.punctuation))
    return " ".join(text.split())


def korquad_f1(gold, prediction):
    predicted = [ch for token in korquad_normalize(prediction).split() for ch in token]
    wanted = [ch for token in korquad_normalize(gold).split() for ch in token]
    same = sum((Counter(predicted) & Counter(wanted)).values())
    if same == 0:
        return 0
    precision, recall = same / len(predicted), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def random_answers(pieces, n, seed):
    generator = random.Random(seed)
    for _ in range(n):
        golds = ["".join(generator.choices(pieces, k=generator.randint(1, 6))) for _ in range(generator.randint(1, 3))]
        yield "".join(generator.choices(pieces, k=generator.randint(0, 6))), golds


def test_a_thousand_english_pairs():
    pieces = ["the ", "The", " an", "a ", "Tarn ", "tarn", " U.S.", "3.5", "-", "'s ", "é", "“", " lake", "\t", "$12 "]
    seen = set()
    for prediction, golds in random_answers(pieces, 1000, seed=1):
        em, f1 = score_answer(prediction, golds, "en")
        golds = squad_golds(golds, squad_normalize)
        assert em == max(squad_normalize(prediction) == squad_normalize(gold) for gold in golds)
        assert f1 == pytest.approx(max(squad_f1(gold, prediction) for gold in golds))
        seen.add((em, 0 < f1 < 1))
    assert {(1.0, False), (0.0, True), (0.0, False)} <= seen


def test_a_thousand_korean_pairs():
    pieces = [
        "서울",
        "서울에서",
        " ",
        "'",
        '"',
        "《",
        "》",
        "「",
        "(",
        ")",
        "‘",
        "1990년",
        "-",
        "대학교 ",
        "IT",
        "A ",
        ".",
        "의",
    ]
    seen = set()
    for prediction, golds in random_answers(pieces, 1000, seed=2):
        em, f1 = score_answer(prediction, golds, "ko")
        golds = squad_golds(golds, korquad_normalize)
        assert em == max(korquad_normalize(prediction) == korquad_normalize(gold) for gold in golds)
        expected = max(korquad_f1(gold, prediction) for gold in golds)
        if em and not korquad_normalize(prediction):
            expected = 1.0  # KorQuAD 1.0 never met an empty answer; SQuAD 2.0's rule stands in
        assert f1 == pytest.approx(expected)
        seen.add((em, 0 < f1 < 1))
    assert {(1.0, False), (0.0, True), (0.0, False)} <= seen


ENGLISH = st.one_of(
    st.lists(st.sampled_from("the The a an An Tarn tarn. lake-side U.S. 3.5 $12 'tis ... é".split()), max_size=8).map(
        " ".join
    ),
    st.text(max_size=20),
)
KOREAN = st.lists(
    st.sampled_from(["서울", "서울에서", "부산은", "1990년", "《", "》", "‘", "(", ")", ".", "-", " ", "IT", "의"]),
    max_size=10,
).map("".join)


@settings(max_examples=1000, deadline=None)
@given(ENGLISH, st.lists(ENGLISH, min_size=1, max_size=3))
@example("The", ["an", "Tarn"])  # empty after normalisation, as one of the golden answers is
@example("The", ["an"])
@example("_", ["the _"])
def test_english_agrees_with_both_versions_of_squad(prediction, golds):
    em, f1 = score_answer(prediction, golds, "en")
    golds = squad_golds(golds, squad_normalize)
    assert em == max(float(squad_normalize(prediction) == squad_normalize(gold)) for gold in golds)
    assert f1 == pytest.approx(max(squad_f1(gold, prediction) for gold in golds), abs=1e-12)
    if squad_normalize(prediction):
        assert f1 == pytest.approx(max(squad_v1_f1(gold, prediction) for gold in golds), abs=1e-12)


@settings(max_examples=1000, deadline=None)
@given(KOREAN, st.lists(KOREAN, min_size=1, max_size=3))
@example("《서울》", ["'서울'", "부산"])
def test_korean_agrees_with_korquad(prediction, golds):
    em, f1 = score_answer(prediction, golds, "ko")
    golds = squad_golds(golds, korquad_normalize)
    assert em == max(float(korquad_normalize(prediction) == korquad_normalize(gold)) for gold in golds)
    if korquad_normalize(prediction):
        assert f1 == pytest.approx(max(korquad_f1(gold, prediction) for gold in golds), abs=1e-12)


def test_by_hand():
    assert score_answer("a", ["the", "Orla"], "en") == (0.0, 0.0)
    assert score_answer("a", ["the"], "en") == (1.0, 1.0)
    assert score_answer("The lake Orla.", ["Lake Orla", "Orla"], "en") == (1.0, 1.0)
    assert score_answer("Orla town", ["lake Orla"], "en") == (0.0, 0.5)
    em, f1 = score_answer("서울특별시에서", ["서울특별시"], "ko")
    assert (em, f1) == (0.0, pytest.approx(10 / 12))
    assert score_answer("《서울》", ["서울"], "ko") == (1.0, 1.0)
    decomposed = "\u1109\u1165\u110b\u116e\u11af"
    assert score_answer(decomposed, ["서울"], "ko") == (1.0, 1.0)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "  .",
        "Unanswerable",
        "Not in the evidence.",
        "The evidence does not mention this.",
        "I don’t know.",
        "It cannot be determined from the text.",
        "N/A",
        "Unknown.",
        "None",
        "There is not enough information to answer.",
        "증거에 없음",
        "알 수 없습니다.",
        "답변할 수 없습니다",
        "관련 정보가 없습니다.",
        "모르겠습니다.",
    ],
)
def test_refusals_are_right_where_there_is_no_answer(answer):
    assert is_refusal(answer)
    assert score_answer(answer, [], "en") == (1.0, 1.0)
    assert score_answer(answer, ["Tarn"], "en") == (0.0, 0.0)


@pytest.mark.parametrize(
    "answer",
    [
        "Tarn",
        "The Unknown Soldier",
        "Nonesuch Palace",
        "1990년",
        "없다고 알려진 섬",
        "정보통신부",
        "It was founded by Ilse Maar, whose parents are unknown, in the year that no answer came from the northern "
        "kings to the letters of the weavers' guild.",
    ],
)
def test_answers_are_not_refusals(answer):
    assert not is_refusal(answer)
    assert score_answer(answer, [], "ko") == (0.0, 0.0)
