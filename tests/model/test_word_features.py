import math
from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.model.architecture.word_features import (
    BUCKETS,
    feature_ids,
    inverse_document_frequency,
    sign_vectors,
    sketch,
)


def test_sign_vectors_are_the_same_on_every_machine():
    vectors = sign_vectors(torch.tensor([0, 1, BUCKETS - 1]), 40)
    bits = (vectors > 0).int().tolist()
    assert ["".join(map(str, row)) for row in bits] == [
        "1111010110110011101110001101111000101111",
        "1111001010100010100100000000000100110111",
        "1010111101011110001101100101110100001101",
    ]


@given(st.lists(st.integers(0, BUCKETS - 1), min_size=1, max_size=5, unique=True), st.integers(1, 300))
def test_sign_vectors_have_unit_length(buckets, width):
    vectors = sign_vectors(torch.tensor(buckets), width)
    assert vectors.shape == (len(buckets), width)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(len(buckets)), atol=1e-5)


def test_different_buckets_are_nearly_orthogonal():
    vectors = sign_vectors(torch.arange(500), 1024)
    products = vectors @ vectors.T - torch.eye(500)
    # Inner products of random signs have standard deviation 1/sqrt(width).
    assert abs(products.std().item() - 1 / 32) < 0.003
    assert products.abs().max() < 6 / 32


def test_sketches_estimate_bm25():
    texts = [f"alpha{i % 7} beta{i % 5} gamma{i} delta shared words stand here" for i in range(40)]
    bags = [feature_ids(text) for text in texts]
    idf = inverse_document_frequency(bags)
    query = feature_ids("alpha3 gamma3 delta")
    z = sketch(bags, 8192)
    estimate = (idf[query][:, None] * sign_vectors(torch.tensor(query), 8192)).sum(0) @ z.T
    average = sum(map(len, bags)) / len(bags)
    exact = []
    for bag in bags:
        counts, score = Counter(bag), 0.0
        for term in query:
            n = sum(term in other for other in bags)
            weight = math.log1p((len(bags) - n + 0.5) / (n + 0.5))
            tf = counts[term]
            score += weight * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(bag) / average))
        exact.append(score)
    assert torch.allclose(estimate, torch.tensor(exact), atol=1.0)
    assert int(estimate.argmax()) == 3


def test_korean_particles_share_features():
    with_particle, without = set(feature_ids("서린도는")), set(feature_ids("서린도"))
    assert without <= with_particle


def test_prefixes_stand_in_for_stems():
    assert set(feature_ids("universities")) & set(feature_ids("university"))
