from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zrag_core.corpus.audit import audit_targets
from zrag_core.corpus.samples import limit_documents, limit_questions
from zrag_core.corpus.splits import assign_splits, group_by_fact, without_twins
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.corpus.version import corpus_version
from zrag_core.settings import SplitSettings

SHARES = SplitSettings(dev=0.2, test=0.3)


def documents(count):
    return tuple(Document(f"d{n}", f"Title {n}", f"Text {n}.") for n in range(count))


@st.composite
def question_lists(draw):
    """Questions that collide often in text, evidence, answers, documents and facts."""
    small = st.integers(0, 5)
    rows = draw(st.lists(st.tuples(small, small, small, small, small, st.booleans()), min_size=1, max_size=25))
    return [
        Question(
            id=f"q{number}",
            question=f"What is  {'THING' if number % 2 else 'thing'} {text}?",
            golden_answers=(f"Answer {answer}",) if answer else (),
            document_ids=tuple(f"d{n}" for n in {document, other}) if document else (),
            evidence=f"Sentence {evidence}." if with_evidence else None,
            fact_id=f"f{evidence}" if other == 3 else "",
        )
        for number, (text, answer, document, other, evidence, with_evidence) in enumerate(rows)
    ]


@given(question_lists(), st.integers(0, 3), st.randoms())
def test_no_question_evidence_or_answer_stands_on_two_sides(questions, seed, random):
    result = assign_splits(questions, SHARES, seed)
    assert [replace(q, split="") for q in result] == questions
    sides = defaultdict(set)
    for q in result:
        if not q.golden_answers and not q.document_ids:
            assert q.split == "unanswerable"
            continue
        assert q.split in ("train", "dev", "test")
        sides["question", " ".join(q.question.lower().split())].add(q.split)
        if q.fact_id:
            sides["fact", q.fact_id].add(q.split)
        for document_id in q.document_ids:
            sides["evidence", document_id, q.evidence].add(q.split) if q.evidence else None
            for answer in q.golden_answers:
                sides["answer", document_id, answer].add(q.split)
    assert all(len(found) == 1 for found in sides.values())
    shuffled = random.sample(questions, len(questions))
    assert {q.id: q.split for q in assign_splits(shuffled, SHARES, seed)} == {q.id: q.split for q in result}


def separate(count):
    return [Question(f"q{n}", f"Question {n}?", (f"a{n}",), (f"d{n}",), f"Sentence {n}.") for n in range(count)]


def test_shares_are_shares_of_facts_not_of_questions():
    single = separate(3000)
    crowd = [Question(f"p{n}", f"Paraphrase {n}?", ("a0",), ("d0",)) for n in range(3000)]
    result = {q.id: q.split for q in assign_splits([*single, *crowd], SHARES, 7)}
    assert len({result[q.id] for q in crowd} | {result["q0"]}) == 1
    counts = Counter(result[q.id] for q in single)
    assert counts["test"] / 3000 == pytest.approx(0.3, abs=0.03)
    assert counts["dev"] / 3000 == pytest.approx(0.2, abs=0.03)
    assert len(list(group_by_fact([*single, *crowd]))) == 3000


@pytest.mark.parametrize(
    "shared",
    [
        {"fact_id": "f{n}"},
        {"question": "One wording {n}?"},
        {"document_ids": ("d{n}",), "evidence": "Sentence {n}."},
        {"document_ids": ("d{n}",), "golden_answers": ("the  ANSWER {n}",)},
    ],
)
def test_each_tie_alone_keeps_two_questions_together(shared):
    def filled(value, n):
        return tuple(v.format(n=n) for v in value) if isinstance(value, tuple) else value.format(n=n)

    first, second = separate(40), [replace(q, id=f"x{q.id}", question=f"Other {q.id}?") for q in separate(40)]
    second = [replace(q, golden_answers=("b",), document_ids=("e",), evidence=f"Evidence {q.id}.") for q in second]
    second = [replace(q, document_ids=(f"e{n}",)) for n, q in enumerate(second)]
    apart = {q.id: q.split for q in assign_splits([*first, *second], SHARES, 0)}
    assert any(apart[f"q{n}"] != apart[f"xq{n}"] for n in range(40))
    pairs = [
        replace(q, **{name: filled(value, n) for name, value in shared.items()})
        for group in (first, second)
        for n, q in enumerate(group)
    ]
    together = {q.id: q.split for q in assign_splits(pairs, SHARES, 0)}
    assert all(together[f"q{n}"] == together[f"xq{n}"] for n in range(40))


def test_a_questionnaire_is_many_facts_and_keeps_no_document_on_two_sides():
    wordings = ["How many rooms are there?", "Is there a garden?", "Since when?"]
    answers = [("3",), ("yes",), ("2019",)]
    form = [
        Question(f"q{n}-{k}", wording, answer if n % 2 else ("4",), (f"d{n}",))
        for n in range(300)
        for k, (wording, answer) in enumerate(zip(wordings, answers, strict=True))
    ]
    counts = Counter(q.split for q in assign_splits(form, SHARES, 0))
    assert counts["test"] / 900 == pytest.approx(0.3, abs=0.06)
    even = [q for q in assign_splits(form, SHARES, 0) if q.golden_answers == ("4",)]
    sides = defaultdict(set)
    for question in even:
        sides[question.document_ids].add(question.split)
    assert all(len(found) == 1 for found in sides.values())
    assigned = Corpus("c", documents(300), tuple(assign_splits(form, SHARES, 0)))
    assert audit_targets(assigned, []).leaks == 0
    same = [replace(q, golden_answers=("3",)) for q in form if q.id.endswith("-0")]
    assert len(list(group_by_fact(same))) == 1, "one answer to the same words is one fact, wherever it stands"


def test_unanswerable_questions_are_no_leak_and_twins_are_left_out():
    asked = [Question("a", "Who dug the well?", ("Orm",), ("d1",), fact_id="well"), Question("b", "Who DUG the well")]
    assigned = assign_splits([*asked, Question("c", "Who filled it?", fact_id="well")], SHARES, 0)
    assert audit_targets(Corpus("c", documents(2), tuple(assigned)), []).leaks == 0
    assert [q.id for q in without_twins(assigned)] == ["a", "c"]


def test_other_seeds_split_differently_and_more_questions_change_nothing():
    old = {q.id: q.split for q in assign_splits(separate(200), SHARES, 0)}
    grown = {q.id: q.split for q in assign_splits(separate(400), SHARES, 0)}
    other = {q.id: q.split for q in assign_splits(separate(200), SHARES, 1)}
    assert old.items() <= grown.items()
    assert old != other


def test_given_splits_stay_and_the_rest_of_their_fact_follows():
    given_test = Question("a", "When?", ("1904",), ("d",), split="test")
    follower = Question("b", "In what year?", ("1904",), ("d",))
    new = Question("c", "New?", ("x",), ("e",), split="new_documents")
    torn = [Question(name, "Torn?", ("y",), ("f",), split=split) for name, split in (("t", "train"), ("u", "dev"))]
    third = Question("v", "torn", ("z",), ("g",))
    result = assign_splits([given_test, follower, new, *torn, third], SHARES, 0)
    assert [q.split for q in result] == ["test", "test", "new_documents", "train", "dev", "train"]


@pytest.mark.parametrize("seed", range(20))
def test_few_facts_still_fill_every_split(seed):
    assert {q.split for q in assign_splits(separate(3), SHARES, seed)} == {"train", "dev", "test"}


@pytest.mark.parametrize("seed", range(12))
def test_one_or_two_facts_are_measured_and_never_lost(seed):
    assert [q.split for q in assign_splits(separate(1), SHARES, seed)] == ["test"]
    assert "test" in {q.split for q in assign_splits(separate(2), SHARES, seed)} <= {"train", "dev", "test"}
    assert {q.split for q in assign_splits(separate(50), SplitSettings(dev=0, test=0), 0)} == {"train"}


@given(st.sets(st.integers(0, 60), min_size=1), st.integers(1, 20), st.integers(0, 3), st.randoms())
@settings(max_examples=50)
def test_document_sample_is_fixed_and_keeps_its_order(numbers, limit, seed, random):
    rows = tuple(document for document in documents(61) if int(document.id[1:]) in numbers)
    kept = limit_documents(Corpus("c", rows, ()), limit, seed).documents
    assert len(kept) == min(limit, len(rows))
    assert list(kept) == [document for document in rows if document in kept]
    shuffled = tuple(random.sample(rows, len(rows)))
    assert set(limit_documents(Corpus("c", shuffled, ()), limit, seed).documents) == set(kept)


def test_document_sample_is_stable_when_the_corpus_grows():
    small = limit_documents(Corpus("c", documents(100), ()), 30, 0).documents
    grown = limit_documents(Corpus("c", documents(110), ()), 30, 0).documents
    assert len(set(small) - set(grown)) <= 10
    assert set(grown) - set(small) <= set(documents(110)[100:])


def test_documents_with_questions_come_first_and_lost_questions_are_counted():
    questions = tuple(Question(f"q{n}", f"{n}?", ("x",), (f"d{n}",)) for n in range(0, 40, 4))
    sampled = limit_documents(Corpus("c", documents(40), questions), 6, 0)
    assert {d.id for d in sampled.documents} == {q.document_ids[0] for q in sampled.questions}
    assert len(sampled.documents) == 6
    assert "limit_documents: 4 questions left out because their documents were" in sampled.notes
    assert "limit_documents: 6 of 40 documents kept (seed 0)" in sampled.notes
    filled = limit_documents(Corpus("c", documents(40), questions), 20, 0)
    assert len(filled.questions) == 10
    assert len(filled.documents) == 20


def test_two_hop_questions_stay_answerable_among_distractors():
    hops = tuple(Question(f"q{n}", f"{n}?", ("x",), (f"d{2 * n}", f"d{2 * n + 1}")) for n in range(200))
    sampled = limit_documents(Corpus("c", documents(2000), hops), 40, 0)
    kept = {d.id for d in sampled.documents}
    assert len(kept) == 40
    assert 10 <= len(sampled.questions) < 16
    assert all(kept.issuperset(q.document_ids) for q in sampled.questions)
    gold = {document_id for q in sampled.questions for document_id in q.document_ids}
    assert len(gold) <= 30


def test_question_sample():
    corpus = Corpus("c", documents(50), tuple(separate(50)))
    sampled = limit_questions(corpus, 10, 0)
    assert len(sampled.questions) == 10
    assert [q for q in corpus.questions if q in sampled.questions] == list(sampled.questions)
    assert sampled.documents == corpus.documents
    assert sampled.notes == ("limit_questions: 10 of 50 questions kept (seed 0)",)
    assert limit_questions(corpus, 50, 0) is corpus
    assert limit_questions(corpus, 10, 1).questions != sampled.questions


def test_a_sample_of_questions_has_every_split_in_proportion():
    sizes = {"train": 120, "test": 60, "dev": 15, "unanswerable": 5}
    rows = [Question(f"{split}{n}", "?", split=split) for split, size in sizes.items() for n in range(size)]
    for seed in range(5):
        sampled = limit_questions(Corpus("c", documents(1), tuple(rows)), 40, seed).questions
        assert Counter(q.split for q in sampled) == {"train": 24, "test": 12, "dev": 3, "unanswerable": 1}
    assert len(limit_questions(Corpus("c", documents(1), tuple(rows)), 7, 0).questions) == 7


def test_unanswerable_questions_go_with_the_document_they_were_asked_about():
    long = replace(documents(5)[4], id="book#1", source_id="book")
    rows = (*documents(4), long)
    asked = tuple(
        Question(f"u{n}", f"Nobody {n}?", split="unanswerable", metadata={"about_document": name})
        for n, name in enumerate(["d0", "d1", "d2", "d3", "book"])
    )
    stray = Question("s", "Who knows?", split="unanswerable")
    sampled = limit_documents(Corpus("c", rows, (*asked, stray)), 2, 0)
    kept = {document.source_id or document.id for document in sampled.documents}
    assert {q.metadata.get("about_document") for q in sampled.questions} == {*kept, None}


@given(st.randoms())
def test_corpus_version_ignores_order_and_sees_every_change(random):
    rows = list(documents(8))
    version = corpus_version(rows)
    assert len(version) == 12
    assert int(version, 16) >= 0
    assert corpus_version(random.sample(rows, len(rows))) == version
    changed = rows.copy()
    place = random.randrange(8)
    changed[place] = replace(changed[place], **{random.choice(["id", "title", "text"]): "다른 글"})
    assert corpus_version(changed) != version
    assert corpus_version(rows[1:]) != version
    assert corpus_version([*rows, Document("new", "", "x")]) != version
