import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zrag_core.model.packing import pack, pad

FILL = 99
PAIR = st.tuples(st.lists(st.integers(0, 50), max_size=4), st.lists(st.integers(0, 50), min_size=1, max_size=4))
PAIRS = st.lists(st.lists(PAIR, max_size=3), min_size=1, max_size=3)


@settings(deadline=None)
@given(PAIRS, st.integers(0, 3))
def test_pairs_stand_side_by_side_and_see_the_prefix_and_themselves(pairs, prefix):
    packed = pack(pairs, prefix, FILL)
    for row, own in enumerate(pairs):
        tokens = []  # (pair, place in it, input, label)
        for number, (query, evidence) in enumerate(own):
            inputs = [*query, "marker", *evidence[:-1]]
            labels = [*[-1] * len(query), *evidence]
            tokens += [(number, place, *both) for place, both in enumerate(zip(inputs, labels, strict=True))]
        for i, (number, place, token, label) in enumerate(tokens):
            assert packed.marker[row, i].item() == (token == "marker")
            assert packed.ids[row, i].item() == (FILL if token == "marker" else token)
            assert packed.labels[row, i].item() == label
            assert packed.positions[row, i].item() == place
            seen = packed.allowed[row, prefix + i].nonzero().flatten().tolist()
            assert seen == [
                *range(prefix),
                *(prefix + j for j, other in enumerate(tokens[: i + 1]) if other[0] == number),
            ]
        assert (packed.labels[row, len(tokens) :] == -1).all()
        assert not packed.marker[row, len(tokens) :].any()
        for slot in range(prefix):
            assert packed.allowed[row, slot].nonzero().flatten().tolist() == list(range(slot + 1))
    assert packed.allowed.any(-1).all(), "a row of the softmax without any position is not a number"


def _examples(model):
    encode, eos = model.backbone.encode, model.backbone.eos_id

    def pair(query, evidence):
        return encode(query), [*encode(evidence), eos]

    return [
        [pair("Where was Orla Venn born?", "Orla Venn was born in Tessamor."), pair("bees", "")],
        [],
        [pair("", "서린도는 섬이다."), pair("How deep?", "Ninety metres."), pair("Who is it? And where?", "Herons.")],
    ]


def _slots(model, n):
    settings = model.settings
    return torch.randn(n, settings.slots, settings.width, generator=torch.Generator().manual_seed(3))


@pytest.fixture(params=["joint", "separated"])
def either(request):
    return request.getfixturevalue("model" if request.param == "joint" else "writer")


@torch.no_grad()
def test_packed_reading_equals_reading_pair_by_pair(either):
    pairs, z = _examples(either), _slots(either, 3)
    nll, owner = either.packed_read_nll(z, pairs)
    assert owner.tolist() == [row for row, own in enumerate(pairs) for _, evidence in own for _ in evidence]
    start = 0
    for row, own in enumerate(pairs):
        for query, evidence in own:
            alone = either.read_loss(z[row : row + 1], [query], [evidence]).item()
            assert nll[start : start + len(evidence)].mean().item() == pytest.approx(alone, abs=1e-4)
            start += len(evidence)
    assert start == len(nll)


def test_packed_reading_has_the_gradient_of_reading_pair_by_pair(either):
    pairs, z = _examples(either), _slots(either, 3).requires_grad_(True)
    (packed,) = torch.autograd.grad(either.packed_read_nll(z, pairs)[0].sum(), z)
    single = sum(
        len(evidence) * either.read_loss(z[row : row + 1], [query], [evidence])
        for row, own in enumerate(pairs)
        for query, evidence in own
    )
    (expected,) = torch.autograd.grad(single, z)
    assert torch.allclose(packed, expected, atol=1e-4)
    assert (packed[[0, 2]].abs().sum((1, 2)) > 0).all()
    assert (packed[1] == 0).all()


@torch.no_grad()
def test_slots_may_stand_closer_in_training(writer):
    pairs, z = _examples(writer), _slots(writer, 3)
    own, _ = writer.packed_read_nll(z, pairs)
    assert torch.equal(writer.packed_read_nll(z, pairs, writer.settings.stride)[0], own)
    assert not torch.allclose(writer.packed_read_nll(z, pairs, 1)[0], own, atol=1e-4)


@torch.no_grad()
def test_nothing_to_read(writer):
    nll, owner = writer.packed_read_nll(_slots(writer, 2), [[], []])
    assert (len(nll), len(owner)) == (0, 0)


def test_pad_left_and_right():
    ids, mask = pad([[1, 2], [3]], 9, torch.device("cpu"), left=True)
    assert ids.tolist() == [[1, 2], [9, 3]]
    assert mask.tolist() == [[1, 1], [0, 1]]
    ids, mask = pad([[1, 2], [3]], 9, torch.device("cpu"))
    assert ids.tolist() == [[1, 2], [3, 9]]
    assert mask.tolist() == [[1, 1], [1, 0]]
    ids, mask = pad([[], []], 9, torch.device("cpu"))
    assert mask.tolist() == [[0], [0]], "a row without tokens still has a place"
