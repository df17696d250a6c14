"""Intervals against closed forms and a direct bootstrap."""

import tracemalloc

import numpy as np
import pytest

from zrag_core.evaluation import bootstrap
from zrag_core.evaluation.bootstrap import bootstrap_interval


def width(interval):
    return interval[1] - interval[0]


def test_one_question_per_document_is_the_normal_approximation():
    values = np.random.default_rng(1).normal(0.4, 1.0, 2000)
    low, high = bootstrap_interval(values, [f"d{i}" for i in range(2000)], samples=4000, seed=3)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - half, abs=half * 0.08)
    assert high == pytest.approx(values.mean() + half, abs=half * 0.08)


def test_copies_of_a_question_add_nothing():
    """Ten copies per document: as wide as without them, and far wider than if they were independent."""
    values = np.random.default_rng(2).random(200) < 0.6
    clusters = np.arange(200).astype(str)
    single = width(bootstrap_interval(values, clusters, samples=2000))
    copied = width(bootstrap_interval(np.repeat(values, 10), np.repeat(clusters, 10), samples=2000))
    independent = width(bootstrap_interval(np.repeat(values, 10), np.arange(2000).astype(str), samples=2000))
    assert copied == pytest.approx(single)
    assert copied == pytest.approx(independent * np.sqrt(10), rel=0.1)


def test_a_direct_bootstrap_agrees():
    generator = np.random.default_rng(3)
    clusters = generator.integers(0, 40, 150)
    values = generator.random(150) + clusters / 40
    groups = [values[clusters == c] for c in np.unique(clusters)]
    means = []
    for _ in range(4000):
        drawn = [groups[i] for i in generator.integers(len(groups), size=len(groups))]
        means.append(np.concatenate(drawn).mean())
    expected = np.quantile(means, [0.05, 0.95])
    found = bootstrap_interval(values, clusters.astype(str), samples=4000, confidence=0.9)
    np.testing.assert_allclose(found, expected, atol=0.06 * np.ptp(expected))


def test_the_level_decides_the_width():
    values, clusters = np.random.default_rng(4).random(300), np.arange(300).astype(str)
    assert width(bootstrap_interval(values, clusters, confidence=0.5)) < width(bootstrap_interval(values, clusters))


def test_undefined_values_are_left_out():
    values = np.array([0.2, np.nan, 0.8, 0.4, np.nan, 0.6])
    clusters = np.array(list("aabbcd"))
    kept = ~np.isnan(values)
    assert bootstrap_interval(values, clusters) == bootstrap_interval(values[kept], clusters[kept])


def test_the_same_seed_gives_the_same_interval_in_any_order():
    generator = np.random.default_rng(5)
    values, clusters = generator.random(100), generator.integers(0, 30, 100).astype(str)
    order = generator.permutation(100)
    assert bootstrap_interval(values, clusters, seed=7) == pytest.approx(
        bootstrap_interval(values[order], clusters[order], seed=7), abs=1e-12
    )
    assert bootstrap_interval(values, clusters, seed=7) != bootstrap_interval(values, clusters, seed=8)


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0, 0.0], ["a", "a"]), ([np.nan, 1.0], ["a", "b"])])
def test_fewer_than_two_documents_say_nothing(values, clusters):
    assert np.isnan(bootstrap_interval(values, clusters)).all()


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 values but 1 clusters"):
        bootstrap_interval([1.0, 0.0], ["a"])


def test_blocks_do_not_change_the_result(monkeypatch):
    values, clusters = np.random.default_rng(6).random(50), np.arange(50).astype(str)
    whole = bootstrap_interval(values, clusters, samples=333)
    monkeypatch.setattr(bootstrap, "BLOCK", 170)
    assert bootstrap_interval(values, clusters, samples=333) == pytest.approx(whole, abs=1e-12)


def test_memory_stays_bounded():
    values, clusters = np.random.default_rng(7).random(20_000), np.arange(20_000).astype(str)
    tracemalloc.start()
    bootstrap_interval(values, clusters, samples=1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    bootstrap._draws.cache_clear()
    assert peak < 120e6  # 40 MB of draws, 32 MB a block; all at once as floats would be 160 MB
