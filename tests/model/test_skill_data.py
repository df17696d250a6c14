import random

import pytest

from zrag_core.model.training.skill_data import AlmanacSkill, CorpusSkill
from zrag_core.sentences import split_sentences


def _sentences_of(item):
    return [span.text for span in split_sentences(item.document.text)]


def test_the_same_generator_state_draws_the_same(skill_source):
    first, again, other = (skill_source.draw(random.Random(seed), 3, 2) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_evidence_is_a_sentence_of_the_document(skill_source):
    rng = random.Random(0)
    for held_out in (False, True):
        for item in skill_source.draw(rng, 3, 4, held_out=held_out):
            assert len(item.asked) <= 4
            assert {evidence for _, evidence in item.asked} <= set(_sentences_of(item))


@pytest.mark.parametrize("language", ["en", "ko"])
def test_two_hop_questions_name_one_document_and_are_answered_in_another(language):
    items = AlmanacSkill((language,)).draw(random.Random(0), 40, 1)
    by_id = {item.document.id: item for item in items}
    hops = [(item, hop) for item in items for hop in item.two_hop]
    assert len(hops) > 10
    for item, hop in hops:
        target = by_id[hop.target]
        assert target is not item
        assert hop.link in _sentences_of(item)
        assert hop.evidence in _sentences_of(target)
        assert item.document.title in hop.question
        assert target.document.title not in hop.question


@pytest.mark.parametrize("language", ["en", "ko"])
def test_vague_questions_name_no_document_and_every_member_of_the_region_answers(language):
    items = AlmanacSkill((language,)).draw(random.Random(0), 40, 1)
    members = {}
    for item in items:
        for question, evidence in item.vague:
            assert evidence in _sentences_of(item)
            assert not any(other.document.title in question for other in items)
            members.setdefault(question, []).append(item)
    assert len(members) >= 8
    assert max(len(found) for found in members.values()) >= 3


def test_every_sentence_is_asked_for_before_one_is_asked_again():
    for item in AlmanacSkill(("en",)).draw(random.Random(0), 16, 12):
        sentences = len(_sentences_of(item))
        assert len(item.asked) == 12
        assert len({evidence for _, evidence in item.asked[:sentences]}) == sentences
        assert len(set(item.unanswerable)) <= 3


def test_languages_come_in_equal_parts():
    drawn = AlmanacSkill(("en", "ko")).draw(random.Random(0), 7, 1)
    korean = sum("almanac-skill-ko" in item.document.id for item in drawn)
    assert (len(drawn), korean) == (7, 4)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_held_out_questions_use_words_that_training_never_draws(language):
    source = AlmanacSkill((language,))

    def questions(held_out):
        single, two_hop = set(), set()
        for seed in range(3):  # the same worlds and documents on both sides
            for item in source.draw(random.Random(seed), 30, 40, held_out=held_out):
                texts = [question for question, _ in item.asked] + item.unanswerable
                single |= {text.replace(item.document.title, "@") for text in texts}
                two_hop |= {hop.question.replace(item.document.title, "@") for hop in item.two_hop}
        return single, two_hop

    for trained, held_out in zip(questions(False), questions(True), strict=True):
        assert min(len(trained), len(held_out)) > 20
        assert not trained & held_out


@pytest.mark.parametrize("characters", [1, 27, 60, 85])
def test_windows_of_a_corpus_are_whole_sentences_within_the_limit(towns, characters):
    source = CorpusSkill(towns, characters)
    texts = {document.id: [span.text for span in split_sentences(document.text)] for document in towns.documents}
    rng, seen = random.Random(0), set()
    for _ in range(40):
        for item in source.draw(rng, 3, 1):
            whole, kept = texts[item.document.id], _sentences_of(item)
            first = whole.index(kept[0])
            assert kept == whole[first : first + len(kept)]
            assert len(kept) == 1 or len(item.document.text) <= characters
            following = whole[first + len(kept) : first + len(kept) + 1]
            assert not following or len(f"{item.document.text} {following[0]}") > characters, "as many as fit"
            seen |= set(kept)
    assert seen == {sentence for whole in texts.values() for sentence in whole}


def test_a_corpus_asks_its_training_questions_and_nothing_held_out(towns):
    rng = random.Random(0)
    asked = [pair for _ in range(60) for item in CorpusSkill(towns).draw(rng, 3, 3) for pair in item.asked]
    assert ("Which mills?", "Town 0 has mills number 0.") in asked
    assert "Which ponds?" not in {question for question, _ in asked}
    assert "Town 0 has gates number 0." not in {evidence for _, evidence in asked}
    assert "Town 2 has towers number 2." in {evidence for _, evidence in asked}, "self-study asks about every other one"
    held_out = [item for item in CorpusSkill(towns).draw(rng, 3, 3, held_out=True) if item.document.id == "c0"]
    assert {question for question, _ in held_out[0].asked} == {"Which ponds?", "Town 0 gates"}
