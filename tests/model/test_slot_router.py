import math

import pytest
import torch
import torch.nn.functional as F

from zrag_core.corpus.types import Document
from zrag_core.model.architecture import slot_router
from zrag_core.model.architecture.document_keys import DocumentKeys, StoredKeys
from zrag_core.model.architecture.encoder import UNUSED
from zrag_core.model.architecture.slot_router import ABSENT, SlotKeys, SlotRouter, inverse_frequency
from zrag_core.model.architecture.token_codec import quantise
from zrag_core.model.architecture.word_features import BUCKETS
from zrag_core.model.architecture.word_lists import WordIndex, text_words, title_words

B, T, N, M, H, D, KEY = 3, 5, 7, 4, 12, 10, 6
NULL_SCORE, NULL_SPAN = 0.7, -0.3
SPANS = [[0, 1, 2, 3], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1], [0, 1, -1, -1], [0, 0, 0, -1], [-1, -1, -1, -1]]
NOWHERE = N - 1
"""Row of the document that has no span (it has no text)."""
DOCUMENTS = [
    Document("0", "Orla Venn", "Orla Venn was born in Tessamor."),
    Document("1", "Bees", "Orla keeps bees, and bees keep Orla."),
    Document("2", "서린도", "서린도는 남쪽 바다에 있다."),
    *(Document(str(row), f"Town {row}", "Where it lies is where it was born.") for row in range(3, N)),
]
WAYS = ("slots", "bytes")
"""How the keys of spans are given: as slots have them, in training, and as they are kept."""


@pytest.fixture
def router():
    torch.manual_seed(0)
    router = SlotRouter(H, D, KEY)
    with torch.no_grad():
        router.null_score.fill_(NULL_SCORE)
        router.null_span.fill_(NULL_SPAN)
    return router


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    return {
        "texts": ["Where was Orla Venn born?", "bees", "서린도는 어디에 있나?"],
        "hidden": torch.randn(B, T, H, generator=generator),
        "mask": mask,
        "z": torch.randn(N, M, D, generator=generator),  # in unused slots, too: what stands there must not matter
        "spans": torch.tensor(SPANS, dtype=torch.int16),
        "idf": torch.rand(BUCKETS, generator=generator),
    }


def _keys(router, z, spans, idf, way="slots"):
    """What the documents, as many as there are in z, are routed by."""
    if way == "slots":
        sentences = SlotKeys(router.span_keys(z, spans), spans)
    else:
        sentences = StoredKeys(router.stored_keys(z, spans), ABSENT)
    documents = DOCUMENTS[: len(z)]
    return DocumentKeys(WordIndex(title_words(documents)), WordIndex(text_words(documents)), idf, sentences)


def _scores(router, texts, hidden, mask, **keys):
    return router.scores(texts, router.query_vectors(hidden, mask), _keys(router, **keys))


def _terms(router, texts, hidden, mask, **keys):
    return _keys(router, **keys).terms(texts, router.query_vectors(hidden, mask))


def _asked(inputs, rows):
    """What `span_logits` takes: the queries, and for each of them a document."""
    return {
        **{name: inputs[name][: len(rows)] for name in ("hidden", "mask")},
        **{name: inputs[name][rows] for name in ("z", "spans")},
    }


def _span_scores(router, hidden, mask, z, spans, way="slots"):
    """{span: score} of one query [T, H] and one document [m, d], slot by slot."""
    tokens = [state for state, there in zip(hidden, mask, strict=True) if there]
    weights = torch.stack([router.token_weight(state)[0] for state in tokens]).softmax(0)
    query = router.query.weight @ sum(weight * state for weight, state in zip(weights, tokens, strict=True))
    scores = {}
    for number in sorted({int(span) for span in spans} - {UNUSED}):
        own = [router.key.weight @ slot for slot, span in zip(z, spans, strict=True) if span == number]
        key = sum(own) / len(own)
        scores[number] = float(query @ (key if way == "slots" else quantise(key))) / math.sqrt(KEY)
    return scores


@torch.no_grad()
@pytest.mark.parametrize("way", WAYS)
def test_scores_equal_a_loop_over_queries_documents_and_spans(router, inputs, way):
    scores = _scores(router, **inputs, way=way)
    assert scores.shape == (B, N + 1)
    title, text, _ = _terms(router, **inputs, way=way)
    assert title.amax(1).gt(0).tolist() == [True, True, True]
    assert text.amax(1).gt(0).tolist() == [True, True, True]
    words = router.log_scale[0].exp() * title + router.log_scale[1].exp() * text
    for b in range(B):
        for i in range(N):
            document = inputs["z"][i], inputs["spans"][i]
            found = _span_scores(router, inputs["hidden"][b], inputs["mask"][b], *document, way)
            if not found:
                assert i == NOWHERE
                assert scores[b, i] < scores[b, :i].min() - 100, "nothing can be found in a document without text"
                continue
            expected = words[b, i] + router.log_scale[2].exp() * max(found.values())
            assert scores[b, i].item() == pytest.approx(expected.item(), abs=1e-4)
        assert scores[b, N].item() == pytest.approx(NULL_SCORE), "the last column is the null document"


@torch.no_grad()
def test_finding_equals_a_loop_over_spans(router, inputs):
    for first in range(N):
        rows = [(first + b) % N for b in range(B)]
        logits = router.span_logits(**_asked(inputs, rows))
        assert logits.shape == (B, M + 1)
        for b, row in enumerate(rows):
            document = inputs["z"][row], inputs["spans"][row]
            found = _span_scores(router, inputs["hidden"][b], inputs["mask"][b], *document)
            for span, score in found.items():
                assert logits[b, span].item() == pytest.approx(score, abs=1e-5)
            assert logits[b, M].item() == pytest.approx(NULL_SPAN), "the last one is the null span"


@torch.no_grad()
@pytest.mark.parametrize("loud", [1.0, 30.0])
def test_spans_that_are_not_there_never_win(router, inputs, loud):
    rows = [4, 5, NOWHERE]
    for sign in (-loud, loud):  # all that is there may be far below the null span
        logits = router.span_logits(**{**_asked(inputs, rows), "z": sign * inputs["z"][rows]})
        for row, there in zip(logits, (2, 1, 0), strict=True):
            kept = torch.cat([row[:there], row[M:]])
            assert row[there:M].max() < kept.min() - 100
            assert torch.allclose(row.softmax(0)[[*range(there), M]], kept.softmax(0), atol=1e-6)


@torch.no_grad()
def test_the_third_term_of_routing_is_the_best_span(router, inputs):
    found = _terms(router, **inputs)[2]
    for row in range(N):
        logits = router.span_logits(**_asked(inputs, [row] * B))
        assert torch.allclose(found[:, row], logits[:, :M].amax(1), atol=1e-5)


@torch.no_grad()
def test_padding_adds_nothing(router, inputs):
    noisy = inputs["hidden"] + 9.0 * (1 - inputs["mask"])[..., None]
    for way in WAYS:
        assert torch.equal(_scores(router, **inputs, way=way), _scores(router, **{**inputs, "hidden": noisy}, way=way))
    asked = _asked(inputs, [0, 1, 4])
    assert torch.equal(router.span_logits(**asked), router.span_logits(**{**asked, "hidden": noisy}))
    short = {"hidden": inputs["hidden"][1:2, :2], "mask": inputs["mask"][1:2, :2]}
    alone = _scores(router, **{**inputs, "texts": ["bees"], **short})
    assert torch.allclose(alone[0], _scores(router, **inputs)[1], atol=1e-5)
    alone = router.span_logits(**short, z=asked["z"][1:2], spans=asked["spans"][1:2])
    assert torch.allclose(alone[0], router.span_logits(**asked)[1], atol=1e-5)


@torch.no_grad()
def test_unused_slots_add_nothing(router, inputs):
    more = {
        "z": torch.cat([inputs["z"], torch.full((N, 2, D), 5.0)], 1),
        "spans": F.pad(inputs["spans"], (0, 2), value=UNUSED),
    }
    for way in WAYS:
        longer = _scores(router, **{**inputs, **more}, way=way)
        assert torch.allclose(longer, _scores(router, **inputs, way=way), atol=1e-5)
    rows = [0, 3, 4]
    asked = _asked(inputs, rows)
    longer = router.span_logits(**{**asked, **{name: value[rows] for name, value in more.items()}})
    assert torch.allclose(longer[:, [*range(M), M + 2]], router.span_logits(**asked), atol=1e-5)


@torch.no_grad()
def test_what_is_kept_in_bytes_routes_nearly_as_slots_do(router, inputs):
    """A number of a key is off by half a step at most, and a step is a 127th of its largest number."""
    exact, kept = (_terms(router, **inputs, way=way) for way in WAYS)
    assert torch.equal(exact[:2], kept[:2])
    queries = router.query_vectors(inputs["hidden"], inputs["mask"])
    largest = router.span_keys(inputs["z"], inputs["spans"]).abs().max()
    assert ((exact - kept)[2].abs() <= queries.abs().sum(1, keepdim=True) * largest / 127 / 2 + 1e-6).all()
    assert kept[2, :, NOWHERE].tolist() == [ABSENT] * B


@torch.no_grad()
def test_a_table_of_keys_has_as_many_as_there_are_spans(router, inputs):
    table = router.stored_keys(inputs["z"], inputs["spans"])
    assert table.counts.tolist() == [len(set(own) - {UNUSED}) for own in SPANS]
    keys = router.span_keys(inputs["z"], inputs["spans"])
    for row, count in enumerate(table.counts.tolist()):
        assert torch.allclose(table.vectors([row])[0, :count], quantise(keys[row, :count]), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, B * M * 2, B * M * 3 + 5])
def test_documents_scored_a_few_at_a_time_score_the_same(router, inputs, chunk, monkeypatch):
    whole = _scores(router, **inputs)
    monkeypatch.setattr(slot_router, "_CHUNK", chunk)
    assert torch.allclose(_scores(router, **inputs), whole, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("way", WAYS)
def test_a_query_without_tokens_says_nothing_whatever_its_padding_holds(router, inputs, way):
    silent = {**inputs, "texts": [""] * B, "mask": torch.zeros(B, T, dtype=torch.long), "way": way}
    scores = _scores(router, **silent)
    assert scores.isfinite().all()
    assert torch.equal(scores, _scores(router, **{**silent, "hidden": inputs["hidden"].flip(0, 1, 2)}))


@torch.no_grad()
@pytest.mark.parametrize("way", WAYS)
def test_a_memory_without_documents(router, inputs, way):
    nothing = {name: inputs[name][:0] for name in ("z", "spans")} | {"way": way}
    assert _scores(router, **{**inputs, **nothing}).tolist() == [[pytest.approx(NULL_SCORE)]] * B


@torch.no_grad()
def test_span_keys_are_linear_in_the_slots_of_their_span(router, inputs):
    z, spans = inputs["z"], inputs["spans"]
    other = torch.randn(N, M, D, generator=torch.Generator().manual_seed(2))
    keys = router.span_keys(z, spans)
    assert keys.shape == (N, M, KEY)
    combined = 2 * keys - 3 * router.span_keys(other, spans)
    assert torch.allclose(router.span_keys(2 * z - 3 * other, spans), combined, atol=1e-5)
    for row, numbers in enumerate(SPANS):
        for span in range(M):
            own = [slot for slot, number in enumerate(numbers) if number == span]
            expected = z[row, own].mean(0) @ router.key.weight.T if own else torch.zeros(KEY)
            assert torch.allclose(keys[row, span], expected, atol=1e-5)


@torch.no_grad()
def test_unseen_directions_are_a_projection_that_leaves_finding_and_routing_as_they_are(router, inputs):
    unseen = router.unseen_directions()
    assert torch.allclose(unseen @ unseen, unseen, atol=1e-5)
    assert torch.allclose(unseen, unseen.T, atol=1e-5)
    assert torch.trace(unseen).item() == pytest.approx(D - KEY, abs=1e-4)
    change = 3 * torch.randn(N, M, D, generator=torch.Generator().manual_seed(2))
    moved, spans = inputs["z"] + change @ unseen, inputs["spans"]
    assert (moved - inputs["z"]).norm() > 1
    assert torch.allclose(_scores(router, **{**inputs, "z": moved}), _scores(router, **inputs), atol=1e-4)
    asked = _asked(inputs, [0, 1, 3])
    assert torch.allclose(
        router.span_logits(**{**asked, "z": moved[[0, 1, 3]]}), router.span_logits(**asked), atol=1e-4
    )
    seen = router.span_keys(inputs["z"] + change, spans)
    assert not torch.allclose(seen, router.span_keys(inputs["z"], spans), atol=0.1)


def test_inverse_frequency_is_that_of_bm25():
    idf = inverse_frequency(torch.tensor([0, 1, 10], dtype=torch.int32), 10)
    expected = [math.log(1 + (10 - n + 0.5) / (n + 0.5)) for n in (0, 1, 10)]
    assert idf.tolist() == pytest.approx(expected)
    assert (idf > 0).all()


def test_every_part_of_the_router_learns(router, inputs):
    found = router.span_logits(**_asked(inputs, [0, 1, 4]))
    loss = F.cross_entropy(_scores(router, **inputs), torch.tensor([0, N, 3]))
    (loss + F.cross_entropy(found, torch.tensor([2, M, 1]))).backward()
    for name, parameter in router.named_parameters():
        # More than rounding leaves behind.
        assert parameter.grad.abs().sum() > 1e-5, name
