import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zrag_core.model.encoder import interleave

FILL = 99
DOCUMENTS = st.lists(st.lists(st.integers(0, 50), max_size=40), min_size=1, max_size=4)


def _by_hand(document, n, distance):
    """The sequence as a list of ("token", id) and ("memory", number)."""
    sequence, number = [], 0
    for count, token in enumerate(document, 1):
        sequence.append(("token", token))
        if count % distance == 0 and number < n:
            sequence.append(("memory", number))
            number += 1
    return sequence + [("memory", left) for left in range(number, n)]


@settings(deadline=None)
@given(DOCUMENTS, st.integers(1, 6), st.integers(1, 9))
def test_tokens_and_memory_tokens_stand_once_in_order_and_at_even_distances(documents, n, stride):
    ids, memory, mask, where = interleave(documents, n, stride, FILL)
    for row, document in enumerate(documents):
        expected = _by_hand(document, n, max(stride, math.ceil(len(document) / n)))
        used = len(document) + n
        found = [
            ("memory", m) if m >= 0 else ("token", i)
            for i, m in zip(ids[row, :used].tolist(), memory[row, :used].tolist(), strict=True)
        ]
        assert found == expected
        assert where[row].tolist() == [place for place, (kind, _) in enumerate(expected) if kind == "memory"]
        assert expected[-1] == ("memory", n - 1), "the last memory token sees the whole document"
        assert mask[row].tolist() == [1] * used + [0] * (mask.shape[1] - used)
        assert (ids[row, used:] == FILL).all()
        assert (memory[row, used:] == -1).all()


def _tokens(model, documents):
    # Of very different lengths: a fragment, one document, and three in a row (longer than slots * stride).
    texts = ["Bees.", documents[3].text, " ".join(document.text for document in documents[:3])]
    return [model.backbone.encode(text) for text in texts]


@torch.no_grad()
def test_a_document_written_alone_equals_it_written_in_a_batch(writer, documents):
    ids = _tokens(writer, documents)
    together = writer.encode(ids)
    assert together.shape == (3, 4, 24)
    for row, document in enumerate(ids):
        assert torch.allclose(writer.encode([document])[0], together[row], atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-2, "a test of equal rows would show nothing"


@torch.no_grad()
def test_a_slot_depends_on_its_document_up_to_its_own_place(writer):
    document = writer.backbone.encode("Lake Munar is ninety metres deep. Herons nest on its shore.")[:16]
    before = writer.encode([document], 4)[0]
    changed = writer.encode([[*document[:9], document[9] + 1, *document[10:]]], 4)[0]
    assert torch.allclose(before[:2], changed[:2], atol=1e-6)
    assert ((before[2:] - changed[2:]).abs().amax(1) > 1e-4).all()


@torch.no_grad()
def test_another_stride_and_fewer_slots(writer, documents):
    ids = _tokens(writer, documents)
    own = writer.encode(ids)
    assert torch.equal(writer.encode(ids, writer.settings.stride), own)
    assert not torch.allclose(writer.encode(ids, 1)[0], own[0], atol=1e-3)
    fewer = writer.encode(ids, slots=2)
    assert fewer.shape == (3, 2, 24)
    # The short document fits into its first slot, which nothing behind it changes.
    assert torch.allclose(fewer[0, 0], own[0, 0], atol=1e-5)


@torch.no_grad()
def test_an_empty_document_has_slots_too(writer):
    assert writer.encode([[], [5, 6]]).isfinite().all()


def test_only_the_documents_own_loss_reaches_its_tokens(writer, documents):
    ids = _tokens(writer, documents)
    writer.encode(ids)[1].sum().backward()
    reached = writer.lm.get_input_embeddings().weight.grad.abs().sum(1) > 0
    assert set(reached.nonzero().flatten().tolist()) <= set(ids[1])
    assert (writer.encoder.memory_tokens.grad.abs().sum(1) > 0).all()


def test_joint_models_have_no_encoder(model):
    with pytest.raises(AssertionError, match="no encoder"):
        model.encode([[1, 2]])
