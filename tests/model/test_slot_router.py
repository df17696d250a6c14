import math

import pytest
import torch
import torch.nn.functional as F

from zrag_core.model import slot_router
from zrag_core.model.features import BUCKETS
from zrag_core.model.slot_router import SlotRouter, inverse_frequency

B, T, N, M, H, D, KEY = 3, 5, 7, 4, 12, 10, 6


@pytest.fixture
def router():
    torch.manual_seed(0)
    router = SlotRouter(H, D, KEY, 16, 24)
    with torch.no_grad():
        router.null_score.fill_(0.7)
    return router


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    return {
        "texts": ["Where was Orla Venn born?", "bees", "서린도는 어디에 있나?"],
        "hidden": torch.randn(B, T, H, generator=generator),
        "mask": mask,
        "z": torch.randn(N, M, D, generator=generator),
        "lexical": torch.randn(N, 40, generator=generator),
        "idf": torch.rand(BUCKETS, generator=generator),
    }


@torch.no_grad()
def test_scores_equal_a_loop_over_queries_documents_tokens_and_slots(router, inputs):
    scores = router.scores(**inputs)
    assert scores.shape == (B, N + 1)
    title, text, _ = router.parts(**inputs)
    words = router.log_scale[0].exp() * title + router.log_scale[1].exp() * text
    for b in range(B):
        tokens = [t for t in range(T) if inputs["mask"][b, t]]
        for i in range(N):
            late = 0.0
            for t in tokens:
                query = router.query.weight @ inputs["hidden"][b, t]
                keys = [router.key.weight @ slot for slot in inputs["z"][i]]
                late += max(F.cosine_similarity(query, key, dim=0).item() for key in keys)
            expected = words[b, i] + router.log_scale[2].exp() * late / math.sqrt(len(tokens))
            assert scores[b, i].item() == pytest.approx(expected.item(), abs=1e-4)
        assert scores[b, N].item() == pytest.approx(0.7), "the last column is the null document"


@torch.no_grad()
def test_padding_adds_nothing(router, inputs):
    noisy = inputs["hidden"] + 9.0 * (1 - inputs["mask"])[..., None]
    assert torch.equal(router.scores(**inputs), router.scores(**{**inputs, "hidden": noisy}))
    alone = router.scores(
        **{**inputs, "texts": ["bees"], "hidden": inputs["hidden"][1:2, :2], "mask": inputs["mask"][1:2, :2]}
    )
    assert torch.allclose(alone[0], router.scores(**inputs)[1], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, B * T * M * 2, B * T * M * 3 + 5])
def test_documents_scored_a_few_at_a_time_score_the_same(router, inputs, chunk, monkeypatch):
    whole = router.scores(**inputs)
    monkeypatch.setattr(slot_router, "_CHUNK", chunk)
    assert torch.allclose(router.scores(**inputs), whole, atol=1e-6)


@torch.no_grad()
def test_a_query_without_tokens_and_a_memory_without_documents(router, inputs):
    silent = {**inputs, "texts": [""] * B, "mask": torch.zeros(B, T, dtype=torch.long)}
    assert router.scores(**silent)[:, :N].tolist() == [[0.0] * N] * B
    empty = router.scores(**{**inputs, "z": torch.zeros(0, M, D), "lexical": torch.zeros(0, 40)})
    assert empty.tolist() == [[pytest.approx(0.7)]] * B


@torch.no_grad()
def test_unseen_directions_are_a_projection_that_leaves_keys_as_they_are(router, inputs):
    unseen = router.unseen_directions()
    assert torch.allclose(unseen @ unseen, unseen, atol=1e-5)
    assert torch.allclose(unseen, unseen.T, atol=1e-5)
    assert torch.trace(unseen).item() == pytest.approx(D - KEY, abs=1e-4)
    change = 3 * torch.randn(N, M, D, generator=torch.Generator().manual_seed(2))
    moved = inputs["z"] + change @ unseen
    assert (moved - inputs["z"]).norm() > 1
    assert torch.allclose(router.slot_keys(moved), router.slot_keys(inputs["z"]), atol=1e-4)
    assert torch.allclose(router.scores(**{**inputs, "z": moved}), router.scores(**inputs), atol=1e-3)
    assert not torch.allclose(router.slot_keys(inputs["z"] + change), router.slot_keys(inputs["z"]), atol=0.1)


def test_inverse_frequency_is_that_of_bm25():
    idf = inverse_frequency(torch.tensor([0, 1, 10], dtype=torch.int32), 10)
    expected = [math.log(1 + (10 - n + 0.5) / (n + 0.5)) for n in (0, 1, 10)]
    assert idf.tolist() == pytest.approx(expected)
    assert (idf > 0).all()


def test_every_part_of_the_router_learns(router, inputs):
    F.cross_entropy(router.scores(**inputs), torch.tensor([0, N, 3])).backward()
    for name, parameter in router.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
