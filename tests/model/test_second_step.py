"""Merging the two steps' routings, by an oracle that ranks one question at a time."""

import math
from types import SimpleNamespace

import pytest
import torch

from zrag_core.model.inference.routing import Depth, Routed, keep_rows, route_again

N, K = 14, 10


@pytest.fixture
def parts(writer, monkeypatch):
    """Random terms of the second step's scores [3, B, N], as if `writer` remembered N documents."""
    drawn = torch.randn(3, 6, N, generator=torch.Generator().manual_seed(5))
    drawn[1] *= 30  # titles do not decide

    def scores(texts, queries):
        total = torch.einsum("t,tbn->bn", writer.router.log_scale.exp(), drawn)
        return torch.cat([total, torch.full((len(texts), 1), 99.0)], 1)  # the null document is not led to

    titles = SimpleNamespace(title_scores=lambda texts: drawn[0].clone())
    monkeypatch.setattr(writer, "routing_scores", scores)
    monkeypatch.setattr(writer, "held", SimpleNamespace(document_keys=titles))
    return drawn


@torch.no_grad()
def again(writer, first, sources, read=K):
    """What is kept after a first step's probabilities [B, N]."""
    texts, queries = [""] * len(first), [[0]] * len(first)
    return route_again(writer, first.log(), torch.zeros(len(first)), texts, queries, sources, Depth(K, read))


def test_the_best_title_takes_the_last_place_where_it_has_none(writer, parts):
    first = (torch.randn(6, N, generator=torch.Generator().manual_seed(6)) * 3).softmax(1)
    sources = first.argmax(1).tolist()
    routed = again(writer, first, sources)
    scales = writer.router.log_scale.exp().tolist()
    replaced = 0
    for i, source in enumerate(sources):
        scores = sum(scale * part for scale, part in zip(scales, parts[:, i], strict=True))
        scores[source] = -math.inf
        mixed = 0.9 * first[i] + 0.1 * scores.softmax(0)
        expected = mixed.argsort(descending=True)[:K].tolist()
        titled = max((row for row in range(N) if row != source), key=lambda row: parts[0, i, row].item())
        if titled not in expected:
            replaced += 1
            expected[-1] = titled
        assert routed.rows[i].tolist() == expected
        assert routed.log_p[i].tolist() == pytest.approx(mixed[expected].log().tolist(), abs=1e-5)
        assert routed.second[i].tolist() == (0.1 * scores.softmax(0) > 0.9 * first[i])[expected].tolist()
    assert 0 < replaced < len(sources), "both cases are tested"


@pytest.mark.parametrize("read", [1, 4])
def test_the_best_title_is_among_the_documents_that_are_read(writer, parts, read):
    first = (torch.randn(6, N, generator=torch.Generator().manual_seed(6)) * 3).softmax(1)
    sources = first.argmax(1).tolist()
    routed = again(writer, first, sources, read)
    ranked_lower = 0
    for i, source in enumerate(sources):
        titled = max((row for row in range(N) if row != source), key=lambda row: parts[0, i, row].item())
        ranked = routed.rows[i].tolist()
        assert titled in ranked[: max(2, read)], "rank ten is not read where four are"
        assert len(set(ranked)) == K, "none is ranked twice"
        assert ranked[0] == source, "what the question names comes first"
        ranked_lower += again(writer, first, sources).rows[i].tolist().index(titled) >= read
    assert ranked_lower, "it is tested"


def test_the_document_that_the_evidence_came_from_is_not_the_one_it_leads_to(writer, parts):
    first = torch.full((6, N), 1e-9)
    first[:, 1:K] = 0.1
    parts[0, :, 0] = 50.0  # the best title by far
    assert (again(writer, first, [1] * 6).rows == 0).any(1).all()
    assert not (again(writer, first, [0] * 6).rows == 0).any()


def test_the_document_that_is_led_on_from_is_always_read():
    rows = torch.tensor([[3, 1, 2, 0], [3, 1, 2, 0]])
    routed = Routed(rows, torch.zeros(2, 4), torch.zeros(2), torch.ones(2, 4, dtype=torch.bool))
    kept = keep_rows(routed, [1, 0], 3)
    assert kept.rows.tolist() == [[3, 1, 2, 0], [3, 0, 2, 1]], "and none is ranked twice"
    assert kept.second.tolist() == [[True] * 4, [True, False, True, False]]
    assert keep_rows(routed, [2, 2], 1).rows[:, 0].tolist() == [2, 2]
