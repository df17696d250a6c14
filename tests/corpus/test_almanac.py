"""The almanac's corpora: stable, honest about what is held out, and answerable from their own text."""

import hashlib
import os
import subprocess
import sys
from collections import Counter, defaultdict

import pytest
from generated import generate_documents
from hypothesis import given, settings
from hypothesis import strategies as st

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.almanac.documents import gives_away
from zrag_core.corpus.types import QUESTION_TYPES, SPLITS
from zrag_core.errors import CorpusError
from zrag_core.sentences import split_sentences
from zrag_core.text import words

LANGUAGES = ("en", "ko")
languages = st.sampled_from(LANGUAGES)
seeds = st.integers(min_value=0, max_value=2**32)
sizes = st.integers(min_value=1, max_value=70)

_DIGEST = """
import hashlib
from zrag_core.corpus.almanac import generate_almanac
for language in ("en", "ko"):
    for pool in ("skill", "evaluation"):
        print(hashlib.sha256(repr(generate_almanac(40, language, 3, pool)).encode()).hexdigest())
"""


def facts_of(question):
    """The document facts that a question rests on; a two-hop question rests on two."""
    return question.fact_id.split(">")


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_every_process_generates_the_same(hash_seed):
    printed = subprocess.run(
        [sys.executable, "-c", _DIGEST],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    here = [
        hashlib.sha256(repr(generate_almanac(40, language, 3, pool)).encode()).hexdigest()
        for language in LANGUAGES
        for pool in ("skill", "evaluation")
    ]
    assert printed == here
    assert len(set(here)) == 4


def test_another_seed_is_another_world():
    first, second = (generate_almanac(64, "en", seed) for seed in (0, 1))
    titles = {document.title for document in first.documents}
    assert len(titles & {document.title for document in second.documents}) <= 3


@settings(max_examples=25, deadline=None)
@given(languages, seeds, sizes, sizes)
def test_a_longer_almanac_only_adds(language, seed, one, other):
    short, long = (generate_almanac(n, language, seed) for n in sorted((one, other)))
    assert long.documents[: len(short.documents)] == short.documents
    in_long = {question.id: question for question in long.questions}
    assert all(in_long.get(question.id) == question for question in short.questions)


@settings(max_examples=25, deadline=None)
@given(languages, seeds, sizes)
def test_ids_splits_and_references_hold(language, seed, n):
    corpus = generate_almanac(n, language, seed)
    assert [document.id for document in corpus.documents] == [f"almanac-{language}-{seed}-{i:05d}" for i in range(n)]
    assert len({document.title for document in corpus.documents}) == n
    known = {document.id for document in corpus.documents}
    assert len({question.id for question in corpus.questions}) == len(corpus.questions)
    for question in corpus.questions:
        assert question.split in SPLITS
        assert question.question_type in QUESTION_TYPES
        assert question.language == language
        assert known.issuperset(question.document_ids)
        assert question.fact_id


@settings(max_examples=25, deadline=None)
@given(languages, seeds, sizes)
def test_answers_stand_in_verbatim_evidence(language, seed, n):
    corpus = generate_almanac(n, language, seed)
    documents = {document.id: document for document in corpus.documents}
    for question in corpus.questions:
        if question.split == "unanswerable":
            continue
        assert question.golden_answers
        assert all(answer in question.evidence for answer in question.golden_answers)
        assert not any(answer.casefold() in question.question.casefold() for answer in question.golden_answers)
        if question.question_type == "single":
            (document_id,) = question.document_ids
            sentences = [span.text for span in split_sentences(documents[document_id].text)]
            assert question.evidence in sentences
            assert documents[document_id].title in question.question


@settings(max_examples=25, deadline=None)
@given(languages, seeds, sizes)
def test_no_fact_and_no_question_stands_on_two_sides(language, seed, n):
    corpus = generate_almanac(n, language, seed)
    assert len({question.question for question in corpus.questions}) == len(corpus.questions)
    splits = defaultdict(set)
    for question in corpus.questions:
        if question.question_type == "single":
            splits[question.fact_id].add(question.split)
    assert all(len(found) == 1 for found in splits.values())
    evidence = defaultdict(set)
    for question in corpus.questions:
        if question.split in ("train", "dev", "test"):
            final = facts_of(question)[-1]
            if question.question_type == "two_hop":
                # The final hop is what is asked for; its own questions are in the same split.
                assert splits[final] <= {question.split}
                allowed = {"train": {"train"}, "dev": {"train", "dev"}, "test": {"train", "test"}}
                assert splits[facts_of(question)[0]] <= allowed[question.split]
            elif question.question_type == "single":
                evidence[question.split].add((question.document_ids, question.evidence))
            else:
                evidence[question.split] |= {
                    ((document_id,), sentence_of(corpus, document_id, position))
                    for document_id, _, position in question.metadata["supporting_facts"]
                }
    assert not evidence["train"] & evidence["test"]
    assert not evidence["train"] & evidence["dev"]
    assert not evidence["dev"] & evidence["test"]


def sentence_of(corpus, document_id, position):
    document = next(document for document in corpus.documents if document.id == document_id)
    return split_sentences(document.text)[position].text


@pytest.mark.parametrize("language", LANGUAGES)
def test_held_out_facts_are_asked_in_other_words(language):
    corpus = generate_almanac(96, language)
    titles = {document.id: document.title for document in corpus.documents}
    phrasings = defaultdict(set)
    for question in corpus.questions:
        if question.question_type == "single" and question.document_ids:
            kind_and_words = (
                question.metadata["kind"],
                question.question.replace(titles[question.document_ids[0]], "_"),
            )
            phrasings["train" if question.split == "train" else "held out"].add(kind_and_words)
    assert len(phrasings["train"]) > 100
    assert not phrasings["train"] & phrasings["held out"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("seed", [0, 1, 77, 4321])
def test_64_documents_bring_enough_questions(language, seed):
    corpus = generate_almanac(64, language, seed)
    counts = Counter((question.split, question.question_type) for question in corpus.questions)
    assert counts["test", "single"] >= 120
    assert counts["test", "two_hop"] >= 20
    assert counts["test", "vague"] >= 8
    assert counts["unanswerable", "single"] >= 40
    assert counts["train", "single"] >= 300
    assert counts["dev", "single"] >= 15
    facts = {split: set() for split in SPLITS}
    for question in corpus.questions:
        if question.question_type == "single":
            facts[question.split].add(question.fact_id)
    asked = sum(len(facts[split]) for split in ("train", "dev", "test"))
    assert 0.25 <= len(facts["test"]) / asked <= 0.42
    assert {fact.rsplit(":", 1)[0] for fact in facts["test"]} == {document.id for document in corpus.documents}


@pytest.mark.parametrize("language", LANGUAGES)
def test_two_hop_questions_follow_a_link(language):
    corpus = generate_almanac(128, language)
    documents = {document.id: document for document in corpus.documents}
    two_hop = [question for question in corpus.questions if question.question_type == "two_hop"]
    assert two_hop
    for question in two_hop:
        (first_id, first_title, first), (second_id, second_title, second) = question.metadata["supporting_facts"]
        assert question.document_ids == (first_id, second_id)
        assert (first_title, second_title) == (documents[first_id].title, documents[second_id].title)
        sentences = [
            split_sentences(documents[first_id].text)[first].text,
            split_sentences(documents[second_id].text)[second].text,
        ]
        assert question.evidence == " ".join(sentences)
        assert second_title in sentences[0]  # the first sentence leads to the second document
        assert set(first_title.split()).isdisjoint(second_title.split())  # and its name is no hint
        assert first_title in question.question
        assert second_title not in question.question
        assert question.golden_answers[0] in sentences[1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_vague_questions_need_several_documents(language):
    corpus = generate_almanac(160, language)
    documents = {document.id: document for document in corpus.documents}
    vague = [question for question in corpus.questions if question.question_type == "vague"]
    assert len(vague) == 40
    for question in vague:
        assert 3 <= len(question.document_ids) <= 20
        for document_id, _, position in question.metadata["supporting_facts"]:
            sentence = split_sentences(documents[document_id].text)[position].text
            assert question.golden_answers[0] in sentence
            assert sentence in question.evidence
        assert not any(documents[document_id].title in question.question for document_id in question.document_ids)


@pytest.mark.parametrize("language", LANGUAGES)
def test_unanswerable_questions_have_no_answer_anywhere(language):
    corpus = generate_almanac(320, language)
    larger_titles = {document.document.title for document in generate_documents(2_000, language)}
    told = {
        (document.document.id, sentence.attribute)
        for document in generate_documents(320, language)
        for sentence in document.sentences
    }
    titles = {document.id: document.title for document in corpus.documents}
    reasons = Counter()
    for question in corpus.questions:
        if question.split != "unanswerable":
            continue
        assert question.golden_answers == question.document_ids == ()
        assert question.evidence is None
        reason = question.metadata["unanswerable"]
        reasons[reason] += 1
        document_id, attribute = question.fact_id.rsplit(":", 1)
        if reason == "missing":
            assert titles[document_id] in question.question
            assert (document_id, attribute) not in told
        else:
            assert question.metadata["entity"] in question.question
            assert question.metadata["entity"] not in larger_titles
    assert reasons["missing"] == 180
    assert reasons["absent"] == 60


@pytest.mark.parametrize("language", LANGUAGES)
def test_titles_stay_unique_and_confusable_in_a_large_almanac(language):
    documents = list(generate_documents(5_000, language))
    titles = [document.document.title for document in documents]
    assert len(set(titles)) == 5_000
    families = Counter(document.document.title.split()[-1] for document in documents[:64] if document.kind == "person")
    assert families.most_common(1)[0][1] >= 2


def test_documents_have_the_promised_length():
    lengths = [len(words(document.document.text)) for document in generate_documents(600)]
    assert 60 <= sum(lengths) / len(lengths) <= 110
    assert min(lengths) >= 45
    assert max(lengths) <= 130
    sentences = [len(document.sentences) for document in generate_documents(600)]
    assert min(sentences) >= 5
    assert max(sentences) <= 8


@pytest.mark.parametrize(
    ("question", "answers", "expected"),
    [
        ("Where is the Velna Academy?", ("velna",), True),
        ("Where is the Velna Academy?", ("Orave", "the Velna Academy"), True),
        ("Where is the Velna Academy?", ("Orave",), False),
    ],
)
def test_questions_that_give_their_answer_away_are_recognised(question, answers, expected):
    assert gives_away(question, answers) is expected


def test_no_documents_is_an_empty_corpus():
    corpus = generate_almanac(0)
    assert corpus.documents == corpus.questions == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, "fr"), "unknown language 'fr'"),
        ((5, "en", 0, "test"), "unknown pool 'test'"),
        ((-1,), "cannot generate -1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(CorpusError, match=message):
        generate_almanac(*arguments)
