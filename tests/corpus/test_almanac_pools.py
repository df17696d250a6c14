"""Nothing that the skill pool teaches is known of the evaluation pool, and both are rich enough."""

import random
import re

import pytest
from generated import generate_documents
from hypothesis import given, settings
from hypothesis import strategies as st

from zrag_core.corpus.almanac import generate_almanac, skill_batch, two_hop_questions
from zrag_core.corpus.almanac.lexicon import expand, load_lexicon
from zrag_core.corpus.almanac.names import POOLS, name_words, pool_of
from zrag_core.errors import CorpusError

LANGUAGES = ("en", "ko")
FUNCTION_WORDS = {"the", "of"}


def templates_of(lexicon):
    yield from (text for texts in lexicon.vague.values() for text in texts)
    for attributes in lexicon.phrasings.values():
        for phrasings in attributes.values():
            yield from phrasings.say + phrasings.ask_train + phrasings.ask_held_out + phrasings.links


def name_parts(name):
    return {part.casefold() for part in re.split(r"[\s\-]+", name)} - FUNCTION_WORDS


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_template_stands_in_both_pools(language):
    skill, evaluation = (set(templates_of(load_lexicon(language, pool))) for pool in POOLS)
    assert len(skill) > 500
    assert len(evaluation) > 500
    assert not skill & evaluation


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("pool", POOLS)
def test_every_attribute_has_enough_phrasings(language, pool):
    lexicon = load_lexicon(language, pool)
    for kind, attributes in lexicon.phrasings.items():
        questions = [text for phrasings in attributes.values() for text in phrasings.ask_train + phrasings.ask_held_out]
        assert len(set(questions)) == len(questions), kind
        for attribute, phrasings in attributes.items():
            assert len(set(phrasings.say)) >= 3, (kind, attribute)
            assert len(set(phrasings.ask_train)) >= 3, (kind, attribute)
            asked = phrasings.ask_train + phrasings.ask_held_out
            assert len(set(asked)) >= 5, (kind, attribute)
            assert len(phrasings.ask_held_out) >= 2, (kind, attribute)
            assert all("{name" in text and "{value" in text for text in phrasings.say)
            assert all("{name" in text and "{value" not in text for text in asked + phrasings.links)


@pytest.mark.parametrize("language", LANGUAGES)
def test_both_pools_tell_the_same_attributes(language):
    skill, evaluation = (load_lexicon(language, pool) for pool in POOLS)
    assert {kind: set(found) for kind, found in skill.phrasings.items()} == {
        kind: set(found) for kind, found in evaluation.phrasings.items()
    }
    assert set(skill.values) == set(evaluation.values)
    assert set(skill.kinds) == set(evaluation.kinds)


@pytest.mark.parametrize("language", LANGUAGES)
def test_listed_words_stand_in_one_pool_only(language):
    listed = []
    for pool in POOLS:
        lexicon = load_lexicon(language, pool)
        values = [value for first, second in lexicon.values.values() for value in first + second]
        kinds = [kind for found in lexicon.kinds.values() for kind in found]
        listed.append({word.casefold() for value in values + kinds for word in value.split()})
    assert not listed[0] & listed[1]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("role", ["given", "family", "place", "other"])
def test_name_words_belong_to_one_pool_whatever_their_role(language, role):
    mine = set(name_words(language, "evaluation", role))
    assert len(mine) > 400
    for other in ("given", "family", "place", "other"):
        assert not mine & set(name_words(language, "skill", other))


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(LANGUAGES), st.integers(min_value=0, max_value=10**6))
def test_generated_names_and_values_are_disjoint(language, seed):
    skill = skill_batch(random.Random(seed), 64, language)
    evaluation = list(generate_documents(64, language, seed))
    parts, answers, sentences = [], [], []
    for documents in (skill, evaluation):
        parts.append(set().union(*(name_parts(document.document.title) for document in documents)))
        found = [sentence for document in documents for sentence in document.sentences]
        answers.append({answer.casefold() for sentence in found for answer in sentence.answers})
        sentences.append({sentence.text for sentence in found})
    assert not parts[0] & parts[1]
    assert not answers[0] & answers[1]
    assert not sentences[0] & sentences[1]


def test_numbers_belong_to_one_pool():
    for document in generate_documents(200):
        for sentence in document.sentences:
            if sentence.answers[-1].replace(",", "").isdigit():
                assert pool_of(sentence.answers[-1].replace(",", "")) == "evaluation"


def test_a_whole_skill_corpus_can_be_had():
    corpus = generate_almanac(64, "en", 0, "skill")
    assert corpus.name == "almanac-skill-en-0"
    assert {question.split for question in corpus.questions} == {"train", "dev", "test", "unanswerable"}


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(LANGUAGES), st.integers(min_value=0, max_value=10**6), st.integers(min_value=0, max_value=40))
def test_skill_batches_can_be_asked(language, seed, n):
    batch = skill_batch(random.Random(seed), n, language)
    again = skill_batch(random.Random(seed), n, language)
    assert [document.document for document in batch] == [document.document for document in again]
    assert [document.index for document in batch] == list(range(n))
    rng = random.Random(seed)
    for document in batch:
        assert len(document.sentences) <= 8
        assert document.document.text == " ".join(sentence.text for sentence in document.sentences)
        assert document.document.title in document.sentences[0].text
        last = len(document.sentences) - 1
        question, sentence = document.ask(rng, last, phrasing="train")
        assert document.document.title in question
        assert sentence == document.sentences[last]
        assert sentence.answers[0] in sentence.text
        missing = document.ask_missing(rng, phrasing="train")
        assert (missing is None) == (not document.missing)
    for hop in two_hop_questions(rng, batch, phrasing="train"):
        assert hop.link in hop.source.sentences
        assert hop.final in hop.target.sentences
        assert hop.target.document.title in hop.link.text
        assert hop.source.document.title in hop.question
        assert hop.final.answers[0] in hop.final.text
        assert hop.final.answers[0] not in hop.question


def test_one_generator_gives_fresh_documents_every_step():
    rng = random.Random(0)
    first, second = skill_batch(rng, 32), skill_batch(rng, 32)
    assert not {d.document.title for d in first} & {d.document.title for d in second}


@pytest.mark.parametrize("language", LANGUAGES)
def test_two_hop_questions_exist_in_skill_batches(language):
    batch = skill_batch(random.Random(0), 64, language)
    assert len(two_hop_questions(random.Random(0), batch, phrasing="train")) > 60


@pytest.mark.parametrize("language", LANGUAGES)
def test_held_out_two_hop_questions_are_worded_as_no_training_question_is(language):
    batch = skill_batch(random.Random(0), 64, language)
    worded = {
        phrasing: {
            hop.question.replace(hop.source.document.title, "@")
            for seed in range(8)
            for hop in two_hop_questions(random.Random(seed), batch, phrasing=phrasing)
        }
        for phrasing in ("train", "held_out")
    }
    assert not worded["train"] & worded["held_out"]
    assert worded["train"]
    assert worded["held_out"]


def test_skill_batch_names_an_unknown_language():
    with pytest.raises(CorpusError, match="unknown language 'xx'"):
        skill_batch(random.Random(0), 1, "xx")


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("plain", ["plain"]),
        ("(a|b) c", ["a c", "b c"]),
        ("c(, a|) (x|y).", ["c, a x.", "c, a y.", "c x.", "c y."]),
        ("(the |)old", ["the old", "old"]),
        ("a (b |)(c|, d).", ["a b c.", "a b, d.", "a c.", "a, d."]),
    ],
)
def test_alternatives_expand_to_every_text(line, texts):
    assert expand(line) == texts
