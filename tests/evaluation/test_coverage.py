"""Answer coverage and groundedness."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.answer_matching import answer_coverage, answer_spans
from zrag_core.corpus.types import Document
from zrag_core.evaluation.metrics.groundedness import grounded
from zrag_core.evidence import Retrieved, Segment, fill_budget


@pytest.mark.parametrize(
    ("evidence", "golds", "covered"),
    [
        ("It was founded by Ilse Maar in 1412.", ["ilse maar"], True),
        ("It was founded by Ilse and Otto Maar.", ["Ilse Maar"], False),
        ("It was founded by Ilse Maar's sister.", ["Ilse Maar"], True),
        ("The Maar family, of Tarn", ["Maar"], True),
        ("the tarns of the north", ["Tarn"], False),
        ("It lies on the Orla", ["an Orla"], True),  # articles do not count
        ("Ship of the line", ["ship of line"], True),
        ("Vitamin A helps", ["A"], True),  # an answer that is an article
        ("Vitamin B helps", ["A"], False),
        ("U.S. weavers", ["U.S."], True),
        ("about 1,000 weavers", ["1000"], True),
        ("about 1000 weavers", ["1,000"], True),
        ("about 3.5 metres", ["3"], False),
        ("about 3.5 metres", ["3.5"], True),
        ("26,000 weavers", ["6,000"], False),
        ("in 1973, 1974 and 1975.", ["1974"], True),
        ("on 2020.5.3", ["2020"], True),
        ("version 1.2, of 3", ["2"], False),
        ("café noir", ["cafe\u0301 noir"], True),
        ("x + y", ["+"], True),
        ("x - y", ["+"], False),
        ("", ["Tarn"], False),
        ("anything", [""], False),
        ("Otto or Ilse", ["Karl", "Ilse"], True),
    ],
)
def test_english(evidence, golds, covered):
    assert answer_coverage(evidence, golds, "en") is covered


@pytest.mark.parametrize(
    ("evidence", "gold", "covered"),
    [
        ("그는 서울에서 살았다.", "서울", True),
        ("그는 서울대학교에서 배웠다.", "서울", False),
        ("서울특별시는 크다.", "서울", False),
        ("1990년에 세워졌다.", "1990년", True),
        ("1990년대에 세워졌다.", "1990년", False),
        ("수도는 서울이다.", "서울", True),
        ("수도는 서울이었으며 크다.", "서울", True),
        ("그는 한국인이다.", "한국", False),
        ("김민수는 가수이다", "김민수", True),
        ("김민수은 가수이다", "김민수", False),  # 은 follows a consonant, 수 ends in a vowel
        ("부산을 지나", "부산", True),
        ("부산를 지나", "부산", False),
        ("연필로 썼다", "연필", True),  # ㄹ takes 로
        ("부산으로 갔다", "부산", True),
        ("연필으로 썼다", "연필", False),
        ("NASA는 말했다", "NASA", True),
        ("길이는 1,000킬로미터에 이른다", "1000킬로미터", True),
        ("서울(Seoul)은 크다", "서울", True),
        ("《흥부전》을 썼다", "흥부전", True),
        ("대한민국의 초대 대통령으로부터", "초대 대통령", True),
        ("초대의 대통령", "초대 대통령", False),  # only the last word may carry a particle
        ("\u1109\u1165\u110b\u116e\u11af에서", "서울", True),
    ],
)
def test_korean_particles(evidence, gold, covered):
    assert answer_coverage(evidence, [gold], "ko") is covered


@pytest.mark.parametrize(
    ("evidence", "gold", "covered"),
    [
        ("역장은 TRK가 고른다.", "TRK", True),
        ("다리의 길이는 84 km이다.", "84 km", True),
        ("그 배는 QX9라고 불린다.", "QX9", True),
        ("선장은 Orla Venn였다.", "Orla Venn", True),
        ("선장은 Orla Vennard였다.", "Orla Venn", False),
        ("수레 40대를 나른다.", "40", True),
        ("수레 140대를 나른다.", "40", False),
        ("수레 1,140대를 나른다.", "1140", True),
        ("약1,140대를 나른다.", "1,140대", True),
        ("제3회 대회", "3회", True),
        ("제3회 대회", "회", True),
        ("지하철2호선을 탔다", "2호선", True),
        ("지하철2호선로를 탔다", "2호선", False),
        ("대한大韓제국", "大韓", True),
        ("이 다리는由TRK管理한다", "TRK", True),
    ],
)
def test_a_change_of_script_ends_a_word(evidence, gold, covered):
    assert answer_coverage(evidence, [gold], "ko") is covered


@pytest.mark.parametrize(
    ("evidence", "gold", "covered"),
    [
        ("港口由TRK管理。", "TRK", True),
        ("灯塔建于1204年。", "1204", True),
        ("灯塔建于1204年。", "1204年", True),
        ("灯塔建于12047年。", "1204", False),
        ("她出生在北海道的小镇。", "北海道", True),
        ("她出生在北海的小镇。", "北海道", False),
        ("それはトヨタの車です。", "トヨタ", True),
        ("それはﾄﾖﾀの車です。", "トヨタ", True),
    ],
)
def test_scripts_without_spaces(evidence, gold, covered):
    assert answer_coverage(evidence, [gold], "en") is covered


def test_questions_that_are_left_out():
    for answer in ("yes", "No.", "예", "네", "아니오", "아니요"):
        assert answer_coverage("yes no 예", [answer], "en") is None
    assert answer_coverage("anything", [], "en") is None
    assert answer_coverage("no man's land", ["no man's land"], "en") is True


WORDS = st.lists(st.sampled_from("alpha beta gamma 하나 둘 delta".split()), max_size=12)


@given(before=WORDS, answer=WORDS.filter(bool), after=WORDS, language=st.sampled_from(["en", "ko"]))
def test_what_was_put_in_is_found(before, answer, after, language):
    evidence = " ".join([*before, *answer, *after])
    assert answer_coverage(evidence, [" ".join(answer)], language) is True


@given(evidence=WORDS, answer=WORDS.filter(bool))
def test_words_that_carry_no_particle_match_as_runs(evidence, answer):
    runs = [evidence[i : i + len(answer)] for i in range(len(evidence))]
    assert answer_coverage(" ".join(evidence), [" ".join(answer)], "en") is (answer in runs)


DOCUMENTS = {
    "a": "Lake Orla lies  in the north.\nIt is deep. Dr. Maar measured it in 1412.",
    "b": "한빛강은 북쪽에서 흐른다. 길이는 120킬로미터이다.",
}


@pytest.mark.parametrize(
    ("evidence", "share"),
    [
        ("It is deep.", 1.0),
        ("Lake Orla lies in the\nnorth. It is deep.", 1.0),
        ("길이는 120킬로미터이다.\nIt is deep.", 1.0),
        ("It is deep.\n한빛강은 북쪽에서", 1.0),  # cut by a budget
        ("It is deep. It is shallow.", 0.5),
        ("Lake Orla lies in the south.", 0.0),
        ("", None),
        (" \n", None),
    ],
)
def test_grounded(evidence, share):
    assert grounded(evidence, DOCUMENTS) == share


def test_nothing_named_is_nothing_grounded():
    assert grounded("It is deep.", {}) == 0.0


@given(st.integers(1, 60))
def test_verbatim_segments_are_grounded_at_every_budget(budget):
    documents = [Document(i, "", text) for i, text in DOCUMENTS.items()]
    segments = tuple(Segment(d.id, 0, len(d.text), d.text, 1.0) for d in documents)
    text = fill_budget(Retrieved("q", segments=segments), budget).text
    assert grounded(text, DOCUMENTS) in (1.0, None)


@pytest.mark.parametrize(
    ("text", "golds", "language", "marked"),
    [
        ("It was founded by Ilse Maar in 1412.", ["ilse maar", "1412"], "en", ["Ilse Maar", "1412"]),
        ("Ship of the line", ["ship of line"], "en", ["Ship of the line"]),
        ("Maar, and Maar's sister", ["Maar"], "en", ["Maar", "Maar"]),
        ("about 26,000 weavers", ["26000"], "en", ["26,000"]),
        ("the ﬁrst STRASSE, or Straße", ["first", "straße"], "en", ["ﬁrst", "STRASSE", "Straße"]),
        ("x + y + z", ["+"], "en", ["+", "+"]),
        ("Vitamin A helps a bit", ["A"], "en", ["A", "a"]),
        ("그는 서울에서, 또 서울대학교에서 살았다.", ["서울"], "ko", ["서울"]),
        ("1,000에서 시작", ["1000"], "ko", ["1,000"]),
        ("그 배는 QX9라고, 또 QX9호라고 불린다.", ["QX9"], "ko", ["QX9", "QX9"]),
        ("她住在北海道。", ["北海道"], "en", ["北海道"]),
        ("yes, it is", ["Yes"], "en", []),
        ("anything", ["", " "], "en", []),
    ],
)
def test_spans_are_the_answers_own_characters(text, golds, language, marked):
    assert [text[start:end] for start, end in answer_spans(text, golds, language)] == marked


@given(
    st.text(alphabet="Aa the한국이에北海1,0.5 ﬁß+\n", max_size=30),
    st.lists(st.text("Aa the한국北海1,0.5+", max_size=6), max_size=3),
)
def test_an_answer_has_a_span_exactly_where_it_is_covered(text, golds):
    for language in ("en", "ko"):
        spans = answer_spans(text, golds, language)
        assert bool(spans) == bool(answer_coverage(text, golds, language))
        assert all(0 <= start < end <= len(text) for start, end in spans)
