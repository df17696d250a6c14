import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zrag_core.model.architecture.encoder import UNUSED
from zrag_core.model.architecture.spans import sentence_ids, span_slots, whole_document
from zrag_core.sentences import split_sentences

WIDTH = 3


@st.composite
def _memories(draw):
    """Spans of a few documents and the span that is wanted of each, which may not be there."""
    slots = draw(st.integers(1, 6))
    spans = draw(st.lists(st.lists(st.integers(UNUSED, 3), min_size=slots, max_size=slots), min_size=1, max_size=4))
    wanted = draw(st.lists(st.integers(0, 4), min_size=len(spans), max_size=len(spans)))
    return spans, wanted


@settings(deadline=None)
@given(_memories(), st.sampled_from([torch.int16, torch.int64]), st.booleans())
def test_the_slots_of_a_span_stand_first_and_in_order(memory, kind, as_tensor):
    spans, wanted = memory
    z = torch.randn(len(spans), len(spans[0]), WIDTH, generator=torch.Generator().manual_seed(len(spans)))
    chosen, used = span_slots(z, torch.tensor(spans, dtype=kind), torch.tensor(wanted) if as_tensor else wanted)
    own = [[slot for slot, span in enumerate(row) if span == number] for row, number in zip(spans, wanted, strict=True)]
    width = max(1, *map(len, own), 1)
    assert chosen.shape == (len(spans), width, WIDTH)
    for row, slots in enumerate(own):
        # A span that is not there is read as one slot of zeros, so that no prompt is empty.
        n = max(1, len(slots))
        expected = torch.zeros(width, WIDTH)
        for place, slot in enumerate(slots):
            expected[place] = z[row, slot]
        assert torch.equal(chosen[row], expected)
        assert used[row].tolist() == [True] * n + [False] * (width - n)


def test_no_documents():
    chosen, used = span_slots(torch.zeros(0, 4, WIDTH), torch.zeros(0, 4, dtype=torch.int16), [])
    assert chosen.shape == (0, 1, WIDTH)
    assert used.shape == (0, 1)


def test_only_the_slots_of_the_span_learn():
    z = torch.randn(2, 4, WIDTH, requires_grad=True)
    span_slots(z, torch.tensor([[0, 0, 1, 1], [0, 1, 2, UNUSED]]), [1, 0])[0].sum().backward()
    assert z.grad.abs().sum(-1).gt(0).tolist() == [[False, False, True, True], [True, False, False, False]]


def test_a_whole_document_is_all_its_slots():
    z = torch.randn(2, 4, WIDTH)
    chosen, used = whole_document(z)
    assert torch.equal(chosen, z)
    assert used.tolist() == [[True] * 4] * 2


TEXT = "Lake Munar is ninety metres deep. Herons nest on its shore! 섬에는 등대가 하나 있다. Bees."


def test_sentences_of_a_text(backbone):
    ids = sentence_ids(backbone, TEXT)
    assert [backbone.decode(sentence) for sentence in ids] == [span.text for span in split_sentences(TEXT)]
    assert len(ids) == 4
    assert sentence_ids(backbone, " \n") == []


def test_a_limit_keeps_the_first_sentences_whole(backbone):
    ids = sentence_ids(backbone, TEXT)
    lengths = [len(sentence) for sentence in ids]
    for limit in range(1, sum(lengths) + 2):
        fit = [n for n in range(len(ids) + 1) if sum(lengths[:n]) <= limit][-1]
        # A first sentence that is too long is cut: a document is never cut to nothing.
        assert sentence_ids(backbone, TEXT, limit) == (ids[:fit] or [ids[0][:limit]])
    assert sentence_ids(backbone, "", 3) == []


def test_spans_of_a_text_without_sentences_are_read_as_a_slot_of_zeros(writer):
    z, spans = writer.encode([sentence_ids(writer.backbone, "")])
    chosen, used = span_slots(z, spans, [0])
    assert chosen.tolist() == [[[0.0] * writer.settings.width]]
    assert used.tolist() == [[True]]
