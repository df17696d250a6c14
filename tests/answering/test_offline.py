"""The offline reader: deterministic, extractive, and right where the evidence makes it easy."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.answering.answer_spans_en import stem
from zrag_core.answering.answer_spans_ko import split_particle
from zrag_core.answering.offline import OfflineReader, extract_answer, rank_sentences
from zrag_core.answering.prompts import REFUSALS, is_refusal
from zrag_core.answering.types import AnswerRequest
from zrag_core.corpus.read import read_corpus
from zrag_core.settings import AlmanacSettings, CorpusSettings

ENGLISH = [
    ("Who founded the observatory?", "The observatory was founded in 1887 by Elvira Quandt.", "Elvira Quandt"),
    ("When was the observatory founded?", "The observatory was founded in 1887 by Elvira Quandt.", "1887"),
    ("In what year did the mill burn down?", "The old mill burned down in 1923 after a storm.", "1923"),
    ("When did the siege begin?", "The siege began on 14 March 1702 and lasted nine weeks.", "14 March 1702"),
    ("How many bridges cross the river?", "Seventeen streams and 12 bridges cross the river Olm.", "12"),
    ("How much did the organ cost?", "The organ cost $4,200 in 1890.", "$4,200"),
    ("Where was the painter born?", "The painter was born in Hollin Bay and died in Tarn.", "Hollin Bay"),
    ("What is the capital of Orland?", "The capital of Orland is Vestmar, a port of 90,000 people.", "Vestmar"),
    ("What is the name of her first novel?", 'In 1931 she published her first novel "The Salt Road".', "The Salt Road"),
    ("Which team won the cup in 1958?", "In 1958 the Dunmore Rovers team won the cup.", "Dunmore Rovers"),
]
KOREAN = [
    ("관측소는 누가 세웠는가?", "관측소는 1887년에 윤서진이 세웠다.", "윤서진"),
    ("관측소는 언제 세워졌는가?", "관측소는 1887년에 윤서진에 의해 세워졌다.", "1887년"),
    ("화가는 어디에서 태어났는가?", "화가는 1902년 5월 3일에 송림시에서 태어났다.", "송림시"),
    ("화가는 언제 태어났는가?", "화가는 1902년 5월 3일에 송림시에서 태어났다.", "1902년 5월 3일"),
    ("서림시의 인구는 몇 명인가?", "서림시의 인구는 약 94만 명이며 항구로 유명하다.", "약 94만 명"),
    ("이 도시의 특산물은 무엇인가?", "이 도시의 특산물은 한라봉이다.", "한라봉"),
    ("그 소설의 제목은 무엇인가?", "작가는 1962년에 소설 『광장의 끝』을 발표하였다.", "광장의 끝"),
    ("박사는 어느 대학교에서 공부했는가?", "박사는 1980년부터 한빛대학교에서 물리학을 공부했다.", "한빛대학교"),
]


@pytest.mark.parametrize(("question", "evidence", "answer"), ENGLISH)
def test_english_spans(question, evidence, answer):
    assert extract_answer(question, evidence, "en").removeprefix("the ") == answer


@pytest.mark.parametrize(("question", "evidence", "answer"), KOREAN)
def test_korean_spans_come_without_their_particle(question, evidence, answer):
    assert extract_answer(question, evidence, "ko") == answer


@pytest.mark.parametrize(
    ("question", "evidence", "answer"),
    [
        ("Is the mill still standing?", "The mill no longer stands, it was torn down.", "no"),
        ("Does the mill grind rye?", "The mill grinds rye and barley.", "yes"),
    ],
)
def test_yes_or_no(question, evidence, answer):
    assert extract_answer(question, evidence, "en") == answer


@pytest.mark.parametrize(("cases", "language"), [(ENGLISH, "en"), (KOREAN, "ko")])
def test_the_right_sentence_is_found_among_others(cases, language):
    """The whole collection as evidence, each question against all sentences of the others."""
    sentences = [evidence for _, evidence, _ in cases]
    found = [rank_sentences(question, sentences, language)[0][1] == evidence for question, evidence, _ in cases]
    assert sum(found) >= len(cases) - 2


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("evidence", ["", " \n "])
def test_no_evidence_is_a_refusal(language, evidence):
    answer = extract_answer("Who?", evidence, language)
    assert answer == REFUSALS[language]
    assert is_refusal(answer)


def test_rows_are_labelled_offline_free_and_repeatable():
    requests = [
        AnswerRequest("q1", "bm25", *ENGLISH[0][:2]),
        AnswerRequest("q2", "closed_book", "Who?", "", closed_book=True),
        AnswerRequest("q3", "bm25", *KOREAN[0][:2], language="ko"),
    ]
    seen = []
    answers = OfflineReader().answer(requests, lambda *state: seen.append(state))
    assert [a.answer for a in answers] == ["Elvira Quandt", REFUSALS["en"], "윤서진"]
    assert {(a.reader, a.model, a.cost_usd, a.cached, a.error) for a in answers} == {
        ("offline", "extractive-v1", 0.0, False, None)
    }
    assert len({a.prompt_hash for a in answers}) == 3
    assert seen == [(1, 3, 0.0), (2, 3, 0.0), (3, 3, 0.0)]
    again = OfflineReader().answer(requests)
    assert [(a.answer, a.prompt_hash) for a in again] == [(a.answer, a.prompt_hash) for a in answers]
    assert OfflineReader().estimate(requests).cost_usd == 0.0


@given(st.text(max_size=80), st.text(max_size=200), st.sampled_from(["en", "ko"]))
def test_any_text_gets_an_extract_or_a_refusal(question, evidence, language):
    answer = extract_answer(question, evidence, language)
    squeezed = "".join(evidence.split())
    assert answer
    assert answer in ("yes", "no", REFUSALS[language]) or "".join(answer.split()) in squeezed


@pytest.mark.parametrize(
    ("unit", "stem_", "particle"),
    [
        ("서울은", "서울", "은"),
        ("서울로", "서울", "로"),
        ("학교에서", "학교", "에서"),
        ("수도이다", "수도", "이다"),
        ("나이", "나이", ""),
        ("가", "가", ""),
        ("1443년에", "1443년", "에"),
        ("Kim은", "Kim", "은"),
        ("책으로", "책", "으로"),
        ("바다", "바다", ""),
        ("사과", "사과", ""),
    ],
)
def test_particles_are_taken_off_where_they_fit(unit, stem_, particle):
    assert split_particle(unit) == (stem_, particle)


@pytest.mark.parametrize("forms", ["founded founder founding", "city cities", "burned burning burns"])
def test_forms_of_a_word_share_a_stem(forms):
    assert len({stem(form) for form in forms.split()}) == 1


@pytest.mark.parametrize(
    ("language", "n", "digest"), [("en", 109, "4f55f11f37340526"), ("ko", 112, "d46387d46701803d")]
)
def test_answers_to_the_almanac_stay_as_they_are(language, n, digest):
    """Leaderboards of the stand-in compare over time: who changes an answer on purpose raises `OfflineReader.model`."""
    corpus = read_corpus(CorpusSettings(almanac=AlmanacSettings(documents=32, language=language)))
    texts = {document.id: document.text for document in corpus.documents}
    asked = [question for question in corpus.questions if question.document_ids][::4]
    answers = [extract_answer(q.question, " ".join(texts[i] for i in q.document_ids), language) for q in asked]
    assert len(answers) == n
    assert hashlib.sha256("\n".join(answers).encode()).hexdigest().startswith(digest)
