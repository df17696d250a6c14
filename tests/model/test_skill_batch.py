import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from memory_fixtures import is_run_of, joined, kept_tokens

from zrag_core.corpus.types import Document
from zrag_core.model.training.skill_batch import make_batch
from zrag_core.model.training.skill_data import AlmanacSkill, CorpusSkill, SkillDocument, TwoHop


def _settings(skill_settings, **skill):
    # Texts and queries stay as they were drawn, so that they can be compared.
    return skill_settings.skill.model_copy(update={"renamed_share": 0.0, "query_mask": 0.0, **skill})


def _batch(source, backbone, settings, seed=0, slots=32, stride=4, level=9):
    return make_batch(source, backbone, settings, random.Random(seed), slots=slots, stride=stride, level=level)


# --- where examples point -------------------------------------------------------------------------


class _Words:
    """A backbone as far as batches without renaming need one: every word is a token."""

    eos_id, mask_id = 0, 1

    def __init__(self):
        self._words = ["<eos>", "<mask>"]

    def encode(self, text, limit=None):
        self._words += [word for word in dict.fromkeys(text.split()) if word not in self._words]
        return [self._words.index(word) for word in text.split()][:limit]

    def decode(self, ids):
        return " ".join(self._words[token] for token in ids)


class _Given:
    """A source of the same documents every time."""

    name = "given"

    def __init__(self, items):
        self._items = items

    def draw(self, rng, n, questions, *, held_out=False):
        return list(self._items)


def _sentence(row, number, length):
    return " ".join([f"S{row}n{number}", *(f"w{row}n{number}k{k}" for k in range(1, length))]) + "."


def _question(row, number):
    return f"Ask {row} {number}"


def _documents(lengths):
    """Documents with sentences of these lengths; each sentence is asked for, and leads on to the next document."""
    sentences = [[_sentence(row, n, length) for n, length in enumerate(own)] for row, own in enumerate(lengths)]
    items = []
    for row, own in enumerate(sentences):
        following = (row + 1) % len(sentences)
        items.append(
            SkillDocument(
                Document(f"d{row}", f"Title {row}", " ".join(own)),
                [(_question(row, n), sentence) for n, sentence in enumerate(own)],
                [f"Lacks {row}"],
                [TwoHop(f"Hop {row}", own[-1], f"d{following}", sentences[following][0])] if following != row else [],
            )
        )
    return items


@hypothesis_settings(deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=1, max_size=4),
    slots=st.integers(1, 12),
    stride=st.integers(1, 5),
    level=st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_examples_point_at_the_span_that_keeps_the_sentence(skill_settings, lengths, slots, stride, level, seed):
    """Oracle: the tokens that the encoder puts behind the slots of each span."""
    words, items = _Words(), _documents(lengths)
    settings = _settings(skill_settings, documents=len(items), questions=2, unanswerable_share=0.0)
    batch = _batch(_Given(items), words, settings, seed, slots, stride, level)
    kept = kept_tokens(batch.sentences, batch.slots, batch.stride)
    rows = {document.id: row for row, document in enumerate(batch.documents)}
    asked = {question: (item.document.id, evidence) for item in items for question, evidence in item.asked}
    for item in items:
        for hop in item.two_hop:
            asked[hop.question] = item.document.id, hop.link
            asked[f"{hop.question} {hop.link}"] = hop.target, hop.evidence

    def points_at_its_evidence(example):
        document, evidence = asked[words.decode(example.given)]
        return example.row == rows[document] and is_run_of(words.encode(evidence), kept[example.row, example.span])

    found = [words.decode(example.given) for example in batch.finds]
    assert sorted(found) == sorted(asked), "each question once"
    read = [words.decode(example.given) for example in batch.reads]
    assert sorted(read) == sorted(question for item in items for question, _ in item.asked[:2]), "some of them"
    assert all(points_at_its_evidence(example) for example in [*batch.finds, *batch.reads])
    for example in batch.reads:
        assert example.target == [*words.encode(asked[words.decode(example.given)][1]), words.eos_id]
    assert all(example.target == [] for example in batch.finds)
    assert all(e.target == [*kept[e.row, e.span], words.eos_id] for e in batch.rebuilds)
    spans = Counter(row for row, _ in kept)
    assert Counter(e.row for e in batch.rebuilds) == {row: min(2, n) for row, n in spans.items()}
    assert len({(e.row, e.span) for e in batch.rebuilds}) == len(batch.rebuilds)


def test_sentences_share_spans_where_slots_are_few(skill_settings):
    words, items = _Words(), _documents([[3] * 7, [3, 3]])
    settings = _settings(skill_settings, documents=2, questions=7)
    drawn = (_batch(_Given(items), words, settings, seed, slots=3) for seed in range(20))
    batch = next(batch for batch in drawn if batch.stride == 4)  # below it, slots grow
    spans = {words.decode(example.given): example.span for example in batch.reads}
    assert [spans[_question(0, n)] for n in range(7)] == [0, 0, 0, 1, 1, 1, 2]
    assert [spans[_question(1, n)] for n in range(2)] == [0, 1]


def test_what_is_cut_off_a_document_is_neither_asked_nor_found(skill_settings):
    words, items = _Words(), _documents([[4, 4, 4, 4], [4, 4, 4, 4]])
    batch = _batch(_Given(items), words, _settings(skill_settings, documents=2, document_tokens=11))
    assert [len(sentences) for sentences in batch.sentences] == [2, 2]
    asked = {words.decode(example.given) for example in batch.reads}
    assert asked == {_question(row, number) for row in range(2) for number in range(2)}
    kept = kept_tokens(batch.sentences, batch.slots, batch.stride)
    assert {(e.row, e.span) for e in batch.finds if e.span is not None} <= set(kept)


def test_long_queries_and_evidence_are_cut(skill_settings):
    words, items = _Words(), _documents([[9, 9], [9, 9]])
    batch = _batch(_Given(items), words, _settings(skill_settings, documents=2, query_tokens=2, evidence_tokens=5))
    for example in [*batch.reads, *batch.rebuilds]:
        assert len(example.target) == 6
        assert example.target[-1] == words.eos_id
    assert {len(example.given) for example in batch.reads} == {2}
    lengths = Counter(len(example.given) for example in batch.finds)
    assert set(lengths) == {2, 4}, "question and first evidence have the room of two questions"
    assert lengths[4] == 2


def test_a_second_document_that_is_not_in_the_step_is_not_led_to(skill_settings):
    items = _documents([[3, 3]] * 6)
    for seed in range(5):
        words = _Words()
        batch = _batch(_Given(items), words, _settings(skill_settings, documents=3), seed)
        ids = [document.id for document in batch.documents]
        found = {words.decode(e.given) for e in batch.finds if words.decode(e.given).startswith("Hop")}
        both = [row for row in range(6) if {f"d{row}", f"d{(row + 1) % 6}"} <= set(ids)]
        expected = {text for row in both for text in (f"Hop {row}", f"Hop {row} {_sentence(row, 1, 3)}")}
        assert found == expected


def test_a_vague_question_is_asked_of_every_document_that_answers_it(skill_settings):
    words, items = _Words(), _documents([[3, 3]] * 3)
    items = [replace(item, vague=[("Vague", _sentence(row, 1, 3))]) for row, item in enumerate(items[:2])] + items[2:]
    batch = _batch(_Given(items), words, _settings(skill_settings, documents=3))
    asked = {batch.documents[e.row].id: e.span for e in batch.finds if words.decode(e.given) == "Vague"}
    assert asked == {"d0": 1, "d1": 1}
    assert not any(text == "Vague" for text, _, _ in batch.queries), "it names no document to be routed to"


def test_questions_without_an_answer_in_a_document_lead_to_its_null_span(skill_settings):
    words, items = _Words(), _documents([[3, 3]] * 8)
    batch = _batch(_Given(items), words, _settings(skill_settings, documents=8, unanswerable_share=1.0))
    lacking, elsewhere = [], []
    for example in batch.finds:
        if example.span is None:
            kind, about, *_ = words.decode(example.given).split()
            own = batch.documents[example.row].id == f"d{about}"
            (lacking if kind == "Lacks" else elsewhere).append(example.row)
            assert own == (kind == "Lacks"), "its own question that it lacks, or another document's"
    assert sorted(lacking) == list(range(8))
    assert 4 <= len(elsewhere) <= 8
    assert len(set(elsewhere)) == len(elsewhere)
    none = _batch(_Given(items), words, _settings(skill_settings, documents=8, unanswerable_share=0.0))
    assert all(example.span is not None for example in none.finds)


# --- slots and strides ----------------------------------------------------------------------------


def test_the_first_level_has_a_token_per_slot_and_the_last_the_full_stride(skill_settings):
    words, items = _Words(), _documents([[3, 3]])
    settings = _settings(skill_settings, documents=1)
    strides = {
        level: Counter(_batch(_Given(items), words, settings, seed, level=level).stride for seed in range(400))
        for level in range(5)
    }
    assert strides[0] == {1: 400}
    assert set(strides[1]) == {1, 2}
    assert set(strides[2]) == {1, 2, 3}
    assert set(strides[3]) == set(strides[4]) == {1, 2, 3, 4}
    # Half of the steps are at the widest stride, and of the others as many as at any.
    assert strides[3][4] / 400 == pytest.approx(1 / 2 + 1 / 2 / 4, abs=0.08)


@hypothesis_settings(deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=1, max_size=3),
    slots=st.integers(1, 12),
    level=st.integers(0, 4),
    seed=st.integers(0, 1000),
)
def test_slots_grow_at_small_strides_so_that_every_document_fits(skill_settings, lengths, slots, level, seed):
    words, items = _Words(), _documents(lengths)
    batch = _batch(_Given(items), words, _settings(skill_settings, documents=len(items)), seed, slots, 4, level)
    if batch.stride == 4:
        assert batch.slots == slots, "as in real use"
        return
    needed = max(sum(-(-length // batch.stride) for length in own) for own in lengths)
    assert batch.slots == max(slots, needed)
    kept = kept_tokens(batch.sentences, batch.slots, batch.stride)
    assert Counter(row for row, _ in kept) == {row: len(own) for row, own in enumerate(batch.sentences)}


# --- what a batch is made of ----------------------------------------------------------------------


def test_the_same_seed_makes_the_same_batch(skill_source, writer, skill_settings):
    settings = skill_settings.skill.model_copy(update={"unanswerable_share": 1.0})
    first, again, other = (_batch(skill_source, writer.backbone, settings, seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_renaming_is_the_same_in_document_question_and_evidence(writer, skill_settings):
    settings = _settings(skill_settings, documents=6)
    source, backbone = AlmanacSkill(("en",)), writer.backbone
    plain = _batch(source, backbone, settings, 5)
    renamed = _batch(source, backbone, settings.model_copy(update={"renamed_share": 1.0}), 5)
    size, special = len(backbone.tokenizer), set(backbone.tokenizer.all_special_ids)
    shares = []
    for row, (before, after) in enumerate(zip(plain.sentences, renamed.sentences, strict=True)):
        pairs = [*zip(joined(before), joined(after), strict=True)]
        for old, new in zip(plain.reads, renamed.reads, strict=True):
            if new.row == row:
                pairs += [*zip(old.given, new.given, strict=True), *zip(old.target, new.target, strict=True)]
                assert new.target[:-1] in after, "evidence is copied, not made up"
        names = dict(pairs)
        assert set(pairs) == set(names.items()), "a token has one name throughout"
        assert names.pop(backbone.eos_id) == backbone.eos_id
        assert all(0 <= new < size and new not in special for new in names.values())
        shares.append(sum(old != new for old, new in names.items()) / len(names))
    assert 0 < min(shares) < max(shares) <= 1


def test_renamed_documents_teach_no_finding(writer, skill_settings):
    settings = _settings(skill_settings, documents=6, renamed_share=1.0, unanswerable_share=1.0)
    batch = _batch(AlmanacSkill(("en",)), writer.backbone, settings)
    assert batch.reads
    assert batch.rebuilds
    assert batch.finds == []


@pytest.mark.parametrize("renamed_share", [0.0, 1.0])
def test_queries_are_labelled_with_their_rows(writer, skill_settings, renamed_share):
    settings = _settings(skill_settings, documents=6, absent_share=0.5, renamed_share=renamed_share)
    batch = _batch(AlmanacSkill(("en", "ko")), writer.backbone, settings)
    assert len(batch.documents) == len(batch.sentences) == 6
    assert [row for _, _, row in batch.queries] == [0, 1, 2, 3, 4, 5, 6, 6, 6]
    titles = [document.title for document in batch.documents]
    first, renamed = {example.row: example.given for example in reversed(batch.reads)}, []
    for text, ids, row in batch.queries:
        plain = writer.backbone.encode(text, settings.query_tokens)
        if row < 6:
            assert titles[row] in text
            assert ids == first[row], "the words are those of the text, the tokens those of the document"
            renamed.append(ids != plain)
        else:
            assert not any(title in text for title in titles), "asked about a document that is not written"
            assert ids == plain
    assert any(renamed) == (renamed_share == 1.0)
    assert len({document.id for document in batch.documents}) == 6


def _masked_shares(examples, backbone):
    return [sum(token == backbone.mask_id for token in e.given) / len(e.given) for e in examples]


def test_the_share_of_masked_tokens_in_rebuilding_reaches_from_its_least_to_all(writer, skill_settings):
    backbone, shares = writer.backbone, []
    settings = _settings(skill_settings, documents=16)
    for seed in range(4):
        batch = _batch(AlmanacSkill(("en",)), backbone, settings, seed)
        for e in batch.rebuilds:
            assert all(m in (t, backbone.mask_id) for m, t in zip(e.given, e.target, strict=True))
        shares += _masked_shares(batch.rebuilds, backbone)
    assert min(shares) > 0.1
    assert min(shares) < 0.45
    assert max(shares) > 0.9
    assert sum(shares) / len(shares) == pytest.approx(0.65, abs=0.08)


def test_some_tokens_of_a_query_are_masked_where_a_span_is_to_be_found_and_nowhere_else(writer, skill_settings):
    backbone, shares = writer.backbone, []
    settings = _settings(skill_settings, documents=16, query_mask=0.6)
    for seed in range(4):
        batch = _batch(AlmanacSkill(("en",)), backbone, settings, seed)
        for read in batch.reads:
            drawn = [
                e.given for e in batch.finds if (e.row, e.span, len(e.given)) == (read.row, read.span, len(read.given))
            ]
            assert any(
                all(new in (old, backbone.mask_id) for old, new in zip(read.given, own, strict=True)) for own in drawn
            ), "the same question"
            assert backbone.mask_id not in read.given
        assert not any(backbone.mask_id in ids for _, ids, _ in batch.queries)
        shares += _masked_shares(batch.finds, backbone)
    assert sum(shares) / len(shares) == pytest.approx(0.3, abs=0.05)
    assert min(shares) == 0.0
    assert max(shares) < 0.95


def test_a_batch_of_a_small_corpus_is_the_whole_of_it(writer, skill_settings, towns):
    settings = _settings(skill_settings, documents=8)
    batches = [_batch(CorpusSkill(towns), writer.backbone, settings, seed) for seed in range(6)]
    for batch in batches:
        assert sorted(document.id for document in batch.documents) == ["c0", "c1", "c2"]
    # A window may hold nothing to be asked for; no row beyond the last document is.
    assert {row for batch in batches for _, _, row in batch.queries} == {0, 1, 2}
