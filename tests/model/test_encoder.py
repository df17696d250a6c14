import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zrag_core.model.architecture.encoder import UNUSED, cut_plan, lay_out, plan_spans, sentences_per_span
from zrag_core.model.architecture.spans import sentence_ids

FILL = 99
SLOTS, STRIDE = st.integers(1, 8), st.integers(1, 9)
LENGTHS = st.lists(st.integers(1, 30), max_size=20)
DOCUMENT = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=12), max_size=8)


def _runs(sentences, n):
    """Lists of `n` neighbours; the last list may be shorter."""
    return [sentences[start : start + n] for start in range(0, len(sentences), n)]


@settings(deadline=None)
@given(LENGTHS, SLOTS, STRIDE)
def test_every_token_is_kept_by_one_slot_of_its_own_span(lengths, slots, stride):
    plan = plan_spans(lengths, slots, stride)
    assert len(plan) <= slots
    assert all(length > 0 for _, length in plan), "a slot that keeps nothing is unused"
    numbers = [span for span, _ in plan]
    assert numbers == sorted(numbers)
    # Slots are laid over the text in order: those of a span hold its tokens and no others.
    kept = [sum(length for span, length in plan if span == number) for number in sorted(set(numbers))]
    assert kept == [sum(run) for run in _runs(lengths, sentences_per_span(len(lengths), slots))]
    assert sorted(set(numbers)) == list(range(len(kept)))


@settings(deadline=None)
@given(LENGTHS, SLOTS, STRIDE)
def test_slots_keep_a_stride_of_tokens_or_as_few_more_as_fit(lengths, slots, stride):
    spans = [sum(run) for run in _runs(lengths, sentences_per_span(len(lengths), slots))]
    kept = next(
        n for n in itertools.count(stride) if sum(len(range(0, length, n)) for length in spans) <= slots
    )  # a stride of its own wherever the document fits
    expected = []
    for number, length in enumerate(spans):
        while length > 0:
            expected.append((number, min(kept, length)))
            length -= kept
    assert plan_spans(lengths, slots, stride) == expected


@settings(deadline=None)
@given(st.integers(1, 60), SLOTS)
def test_sentences_share_a_span_only_where_there_are_more_of_them_than_slots(n, slots):
    share = sentences_per_span(n, slots)
    assert share == next(k for k in itertools.count(1) if len(_runs(range(n), k)) <= slots)
    assert (share == 1) == (n <= slots)


def test_plans_by_hand():
    assert plan_spans([7, 3], 8, 5) == [(0, 5), (0, 2), (1, 3)]
    assert plan_spans([7, 3], 2, 5) == [(0, 7), (1, 3)], "too few slots: more tokens in each"
    assert plan_spans([4, 4, 4, 4, 4], 2, 5) == [(0, 12), (1, 8)], "three sentences and then two"
    assert plan_spans([], 4, 5) == []


def _pieces(plan, window):
    """Spans that fit into a window, and the slots of those that do not: what is never cut."""
    for _, group in itertools.groupby(plan, key=lambda slot: slot[0]):
        own = list(group)
        if sum(length for _, length in own) <= window:
            yield own
        else:
            yield from ([slot] for slot in own)


@settings(deadline=None)
@given(LENGTHS, SLOTS, STRIDE, st.integers(1, 60))
def test_passages_take_as_many_whole_spans_as_the_window_holds(lengths, slots, stride, window):
    plan = plan_spans(lengths, slots, stride)
    expected, room = [], 0
    for piece in _pieces(plan, window):
        size = sum(length for _, length in piece)
        if size > room:
            expected.append([])
            room = window
        expected[-1].extend(piece)
        room -= size
    passages = cut_plan(plan, window)
    assert passages == expected
    assert list(itertools.chain(*passages)) == plan, "every slot is in one passage, in order"
    for passage in passages:
        # A slot is never cut: where a document has too few of them, one may keep more than is read at once.
        assert len(passage) == 1 or sum(length for _, length in passage) <= window


def _by_hand(document, slots, stride, window=None):
    """Each passage as a list of ("token", id) and ("slot", span, ids that it keeps)."""
    plan, tokens = plan_spans(list(map(len, document)), slots, stride), list(itertools.chain(*document))
    passages = []
    for part in cut_plan(plan, window) if window else [plan] if plan else []:
        passages.append([])
        for span, length in part:
            own, tokens = tokens[:length], tokens[length:]
            passages[-1] += [("token", token) for token in own] + [("slot", span, own)]
    return passages


@settings(deadline=None)
@given(st.lists(DOCUMENT, min_size=1, max_size=4), SLOTS, STRIDE, st.none() | st.integers(1, 40))
def test_memory_tokens_stand_behind_the_tokens_that_they_keep(documents, slots, stride, window):
    layout = lay_out(documents, slots, stride, FILL, window)
    cut = [_by_hand(document, slots, stride, window) for document in documents]
    passages = [(row, passage) for row, own in enumerate(cut) for passage in own]
    width = max((len(passage) for _, passage in passages), default=0)
    most = max((sum(item[0] == "slot" for item in passage) for _, passage in passages), default=0)
    assert layout.ids.shape == layout.mask.shape == (len(passages), width), "no column without anything"
    assert layout.own.shape == (len(passages), most, width)
    count = [0] * len(documents)
    for number, (row, passage) in enumerate(passages):
        places = [place for place, item in enumerate(passage) if item[0] == "slot"]
        n, padding = len(places), width - len(passage)
        ids = [item[1] if item[0] == "token" else FILL for item in passage]
        assert layout.ids[number].tolist() == ids + [FILL] * padding
        assert layout.mask[number].tolist() == [1] * len(passage) + [0] * padding
        assert layout.where[number].tolist() == places + [0] * (most - n)
        assert layout.spans[number].tolist() == [passage[place][1] for place in places] + [UNUSED] * (most - n)
        assert layout.rows[number, :n].tolist() == [row] * n
        assert layout.numbers[number, :n].tolist() == list(range(count[row], count[row] + n))
        count[row] += n
        for slot, place in enumerate(places):
            weights, kept = layout.own[number, slot], len(passage[place][2])
            assert weights.nonzero().flatten().tolist() == list(range(place - kept, place))
            assert weights[place - kept : place].tolist() == pytest.approx([1 / kept] * kept)
        assert not layout.own[number, n:].any()


@pytest.fixture
def attentive(writer):
    """A new model hardly attends to anything; what stands before a slot must matter to it."""
    with torch.no_grad():
        for name, parameter in writer.named_parameters():
            if ".layers." in name and parameter.ndim == 2:
                parameter.mul_(5)
    return writer


def _documents(model, documents):
    # Of very different lengths: a fragment, nothing, one document, and three in a row (longer than slots * stride).
    texts = ["Bees.", "", documents[3].text, " ".join(document.text for document in documents[:3])]
    return [sentence_ids(model.backbone, text) for text in texts]


def _written_alone(model, document, slots, stride):
    """Used slots of one document, by an unpadded pass of the LM over each passage."""
    made = [torch.zeros(0, model.settings.width)]
    for passage in _by_hand(document, slots, stride, model.encoder.window):
        embeds, places = [], []
        for item in passage:
            if item[0] == "token":
                embeds.append(model.backbone.embed(torch.tensor(item[1])))
            else:
                places.append(len(embeds))
                mean = model.backbone.embed(torch.tensor(item[2])).mean(0)
                embeds.append(model.encoder.memory_token + 2 * mean)
        hidden = model.lm.base_model(inputs_embeds=torch.stack(embeds)[None]).last_hidden_state[0]
        made.append(model.encoder.down(hidden[places]))
    return torch.cat(made)


@torch.no_grad()
@pytest.mark.parametrize(("slots", "stride", "window"), [(4, 4, 1024), (12, 3, 24), (12, 4, 7), (2, 1, 1)])
def test_slots_are_the_states_of_memory_tokens_in_a_plain_pass(attentive, documents, slots, stride, window):
    attentive.encoder.window = window
    ids = _documents(attentive, documents)
    z, spans = attentive.encode(ids, stride, slots)
    assert z.shape == (4, slots, 24)
    for row, document in enumerate(ids):
        numbers = [span for span, _ in plan_spans(list(map(len, document)), slots, stride)]
        assert spans[row].tolist() == numbers + [UNUSED] * (slots - len(numbers))
        assert torch.allclose(z[row, : len(numbers)], _written_alone(attentive, document, slots, stride), atol=1e-4)
        assert not z[row, len(numbers) :].any(), "an unused slot holds nothing"
    assert (z[2, 0] - z[3, 0]).abs().max() > 1e-2, "a test of equal rows would show nothing"


@torch.no_grad()
@pytest.mark.parametrize("window", [1024, 24])
def test_a_document_written_alone_equals_it_written_in_any_company(attentive, documents, window):
    attentive.encoder.window = window
    ids = _documents(attentive, documents)
    together, spans = attentive.encode(ids)
    for rows in ([0], [1], [2], [3], [3, 0], [1, 2]):
        z, numbers = attentive.encode([ids[row] for row in rows])
        assert torch.allclose(z, together[rows], atol=1e-4)
        assert torch.equal(numbers, spans[rows])


@torch.no_grad()
@pytest.mark.parametrize("n", [0, 1, 2])
def test_empty_documents_have_no_span(writer, n):
    z, spans = writer.encode([[]] * n)
    assert torch.equal(z, torch.zeros(n, 4, 24))
    assert spans.shape == (n, 4)
    assert (spans == UNUSED).all()


@torch.no_grad()
def test_later_sentences_do_not_change_earlier_spans(attentive):
    first, second = sentence_ids(attentive.backbone, "Lake Munar is ninety metres deep. Herons nest on its shore.")
    other = attentive.backbone.encode("Bees.")
    # With more slots than are needed, every document keeps the stride.
    z, spans = attentive.encode([[first, second], [first, other], [first], [other, second]], 4, 12)
    own = spans[0] == 0
    assert own.sum() == -(-len(first) // 4)
    for row in (1, 2):
        assert torch.equal(spans[row] == 0, own)
        assert torch.allclose(z[row][own], z[0][own], atol=1e-5)
    after, elsewhere = z[0][spans[0] == 1], z[3][spans[3] == 1]
    assert after.shape == elsewhere.shape
    assert ((after - elsewhere).abs().amax(1) > 1e-3).all(), "what comes before is context"


@torch.no_grad()
def test_a_passage_is_written_as_if_it_were_alone(attentive):
    sentences = sentence_ids(attentive.backbone, "Lake Munar is ninety metres deep. Herons nest on its shore. Bees.")
    attentive.encoder.window = len(sentences[0]) + 1
    whole, spans = attentive.encode([sentences], 4, 12)
    first, second = attentive.encode([sentences[:1]], 4, 12), attentive.encode([sentences[1:]], 4, 12)
    made = torch.cat([z[numbers != UNUSED] for z, numbers in (first, second)])
    assert torch.allclose(whole[spans != UNUSED], made, atol=1e-5)
    attentive.encoder.window = sum(map(len, sentences))
    together, _ = attentive.encode([sentences], 4, 12)
    assert torch.allclose(together[spans == 0], whole[spans == 0], atol=1e-5)
    assert not torch.allclose(together[spans == 1], whole[spans == 1], atol=1e-3), "no cut, more context"


@torch.no_grad()
def test_a_slot_depends_on_its_sentence_up_to_its_own_place(attentive):
    sentence = attentive.backbone.encode("Lake Munar is ninety metres deep, and cold.")[:16]
    changed = [*sentence[:9], sentence[9] + 1, *sentence[10:]]
    before, after = (attentive.encode([[ids]], 4)[0][0] for ids in (sentence, changed))
    assert torch.allclose(before[:2], after[:2], atol=1e-5)
    assert ((before[2:] - after[2:]).abs().amax(1) > 1e-3).all()


@torch.no_grad()
def test_stride_and_slots_are_the_models_own_where_none_are_given(writer, documents):
    ids = _documents(writer, documents)
    own, spans = writer.encode(ids)
    again, numbers = writer.encode(ids, writer.settings.stride, writer.settings.slots)
    assert torch.equal(again, own)
    assert torch.equal(numbers, spans)


def test_only_the_documents_own_loss_reaches_its_tokens(writer, documents):
    ids = _documents(writer, documents)
    writer.encode(ids)[0][2].sum().backward()
    reached = writer.lm.get_input_embeddings().weight.grad.abs().sum(1) > 0
    assert set(reached.nonzero().flatten().tolist()) == set(itertools.chain(*ids[2]))
    assert writer.encoder.memory_token.grad.abs().sum() > 0
