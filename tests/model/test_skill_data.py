import random

import pytest

from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.model.skill_data import AlmanacSkill, CorpusSkill, highest_level, make_batch
from zrag_core.text import split_sentences


def _settings(skill_settings, **skill):
    # Texts stay as they were drawn, so that they can be compared.
    return skill_settings.skill.model_copy(update={"renamed_share": 0.0, **skill})


@pytest.fixture(scope="module")
def corpus():
    documents = tuple(
        Document(f"c{n}", f"Town {n}", " ".join(f"Town {n} has {word} number {n}." for word in words))
        for n, words in enumerate([("mills", "ponds", "inns", "bridges", "gates"), ("하천", "등대"), ("towers",)])
    )
    asked = Question("q0", "Which mills?", ("number 0",), ("c0",), "Town 0 has mills number 0.", "train")
    kept = Question("q1", "Which ponds?", ("number 0",), ("c0",), "Town 0 has ponds number 0.", "test")
    # Held out by its sentence: no self-study query may show it.
    synthetic = Question(
        "q2", "Town 0 gates", ("gates",), ("c0",), "Town 0 has gates number 0.", "test", metadata={"self_study": True}
    )
    return Corpus("towns", documents, (asked, kept, synthetic))


@pytest.fixture(params=["generated", "corpus"])
def source(request, corpus):
    return AlmanacSkill(("en", "ko")) if request.param == "generated" else CorpusSkill(corpus)


def test_the_same_generator_state_draws_the_same(source):
    first, again, other = (source.draw(random.Random(seed), 3, 2, longest=2) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_evidence_is_a_sentence_of_what_is_left_of_the_document(source):
    rng = random.Random(0)
    for longest in (1, 2, None):
        for item in source.draw(rng, 3, 4, longest=longest):
            sentences = [span.text for span in split_sentences(item.document.text)]
            assert len(item.asked) <= 4
            assert all(evidence in item.document.text for _, evidence in item.asked)
            if longest:
                assert len(sentences) <= longest


def test_languages_come_in_equal_parts():
    drawn = AlmanacSkill(("en", "ko")).draw(random.Random(0), 7, 1)
    korean = sum("almanac-skill-ko" in item.document.id for item in drawn)
    assert (len(drawn), korean) == (7, 4)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_held_out_questions_use_words_that_training_never_draws(language):
    source = AlmanacSkill((language,))

    def questions(held_out):
        found = set()
        for seed in range(3):  # the same worlds and documents on both sides
            for item in source.draw(random.Random(seed), 30, 40, held_out=held_out):
                texts = [question for question, _ in item.asked] + item.unanswerable
                found |= {text.replace(item.document.title, "@") for text in texts}
        return found

    trained, held_out = questions(False), questions(True)
    assert min(len(trained), len(held_out)) > 50
    assert not trained & held_out


def test_held_out_documents_are_whole():
    whole = AlmanacSkill(("en",)).draw(random.Random(5), 12, 1, longest=1, held_out=True)
    parts = AlmanacSkill(("en",)).draw(random.Random(5), 12, 1, longest=1)
    assert max(len(split_sentences(item.document.text)) for item in whole) > 3
    assert {item.document.title for item in whole} == {item.document.title for item in parts}


@pytest.mark.parametrize("characters", [1, 27, 60, 85])
def test_windows_of_a_corpus_are_whole_sentences_within_the_limit(corpus, characters):
    source = CorpusSkill(corpus, characters)
    texts = {document.id: [span.text for span in split_sentences(document.text)] for document in corpus.documents}
    rng, seen = random.Random(0), set()
    for _ in range(40):
        for item in source.draw(rng, 3, 1):
            whole, kept = texts[item.document.id], [span.text for span in split_sentences(item.document.text)]
            first = whole.index(kept[0])
            assert kept == whole[first : first + len(kept)]
            assert len(kept) == 1 or len(item.document.text) <= characters
            following = whole[first + len(kept) : first + len(kept) + 1]
            assert not following or len(f"{item.document.text} {following[0]}") > characters, "as many as fit"
            seen |= set(kept)
    assert seen == {sentence for whole in texts.values() for sentence in whole}


def test_a_corpus_asks_its_training_questions_and_nothing_held_out(corpus):
    rng = random.Random(0)
    asked = [pair for _ in range(60) for item in CorpusSkill(corpus).draw(rng, 3, 3) for pair in item.asked]
    assert ("Which mills?", "Town 0 has mills number 0.") in asked
    assert "Which ponds?" not in {question for question, _ in asked}
    assert "Town 0 has gates number 0." not in {evidence for _, evidence in asked}
    assert "Town 2 has towers number 2." in {evidence for _, evidence in asked}, "self-study asks about every other one"
    held_out = [item for item in CorpusSkill(corpus).draw(rng, 3, 3, held_out=True) if item.document.id == "c0"]
    assert {question for question, _ in held_out[0].asked} == {"Which ponds?", "Town 0 gates"}


def _batch(source, writer, settings, seed=0, stride=4, level=9):
    return make_batch(source, writer.backbone, settings, random.Random(seed), stride=stride, level=level)


def test_renaming_is_the_same_in_document_question_and_evidence(writer, skill_settings):
    plain, renamed = (
        make_batch(
            AlmanacSkill(("en",)),
            writer.backbone,
            skill_settings.skill.model_copy(update={"renamed_share": share}),
            random.Random(5),
            stride=2,
            level=1,
        )
        for share in (0.0, 1.0)
    )
    size, special = len(writer.backbone.tokenizer), set(writer.backbone.tokenizer.all_special_ids)
    tokens = [token for ids in renamed.ids for token in ids]
    assert all(0 <= token < size and token not in special for token in tokens)
    # What stood in the document as a run of tokens still does: evidence is copied, not made up.
    for ids, pairs in zip(renamed.ids, renamed.pairs, strict=True):
        for _, evidence in pairs:
            assert evidence[-1] == writer.backbone.eos_id
            body = evidence[1:-1]
            assert len(evidence) == 1 or any(ids[i : i + len(body)] == body for i in range(len(ids)))
    assert {token for ids in plain.ids for token in ids} != set(tokens)


def test_queries_are_labelled_with_their_rows(writer, skill_settings):
    settings = _settings(skill_settings, documents=6, questions=2, absent_share=0.5, languages=("en", "ko"))
    batch = _batch(AlmanacSkill(("en", "ko")), writer, settings)
    assert len(batch.documents) == len(batch.ids) == len(batch.pairs) == len(batch.masked) == 6
    rows = [row for _, _, row in batch.queries]
    assert rows == [*(row for row in range(6) for _ in range(2)), 6, 6, 6]
    for text, ids, row in batch.queries:
        assert ids == writer.backbone.encode(text, settings.query_tokens)
        titles = [document.title for document in batch.documents]
        if row < 6:
            assert titles[row] in text
        else:
            assert not any(title in text for title in titles), "asked about a document that is not written"
    assert len({document.id for document in batch.documents}) == 6


def test_a_document_answers_its_own_questions_and_no_others(writer, skill_settings):
    backbone = writer.backbone
    settings = _settings(skill_settings, documents=8, unanswerable_share=1.0, document_tokens=40)
    batch = _batch(AlmanacSkill(("en",)), writer, settings)
    empty = 0
    for document, ids, pairs, masked in zip(batch.documents, batch.ids, batch.pairs, batch.masked, strict=True):
        assert ids == backbone.encode(document.text)[:40]
        for query, evidence in pairs:
            assert evidence[-1] == backbone.eos_id
            if len(evidence) > 1:
                assert backbone.decode(evidence[:-1]) in document.text
                assert document.title in backbone.decode(query)
        empty += sum(len(evidence) == 1 for _, evidence in pairs)
        assert len(masked) == len(ids) + 1
        assert all(m in (t, backbone.mask_id) for m, t in zip(masked, [*ids, backbone.eos_id], strict=True))
    assert 8 < empty <= 16, "an unanswerable question for each, and mostly one about another document"
    without = _batch(AlmanacSkill(("en",)), writer, _settings(skill_settings, documents=8, unanswerable_share=0.0))
    assert all(len(evidence) > 1 for pairs in without.pairs for _, evidence in pairs)


def test_the_share_of_masked_tokens_reaches_from_its_least_to_all(writer, skill_settings):
    settings = _settings(skill_settings, documents=16, sentences=8, mask_least=0.5)
    shares = []
    for seed in range(4):
        batch = _batch(AlmanacSkill(("en",)), writer, settings, seed)
        shares += [sum(t == writer.backbone.mask_id for t in masked) / len(masked) for masked in batch.masked]
    assert min(shares) > 0.2
    assert min(shares) < 0.65
    assert max(shares) > 0.9
    assert sum(shares) / len(shares) == pytest.approx(0.75, abs=0.08)


def test_the_first_level_has_one_sentence_and_a_token_per_slot(writer, skill_settings):
    settings = _settings(skill_settings, documents=4, sentences=3)
    assert highest_level(settings, 4) == 3
    assert highest_level(settings, 2) == 2
    seen = {}
    for level in range(5):
        batches = [_batch(AlmanacSkill(("en",)), writer, settings, seed, level=level) for seed in range(30)]
        lengths = {len(split_sentences(document.text)) for batch in batches for document in batch.documents}
        seen[level] = {batch.stride for batch in batches}, max(lengths)
    assert seen[0] == ({1}, 1)
    assert seen[1] == ({1, 2}, 2)
    assert seen[2] == ({1, 2, 3}, 3)
    assert seen[3] == seen[4] == ({1, 2, 3, 4}, 3)


def test_a_batch_of_a_small_corpus_is_the_whole_of_it(writer, skill_settings, corpus):
    batch = _batch(CorpusSkill(corpus), writer, _settings(skill_settings, documents=8))
    assert sorted(document.id for document in batch.documents) == ["c0", "c1", "c2"]
    assert max(row for _, _, row in batch.queries) == 2
