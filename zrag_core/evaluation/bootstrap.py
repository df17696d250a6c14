"""Confidence intervals that resample documents, because questions of one document are not independent.

The cluster bootstrap (Davison and Hinkley 1997, section 3.8): whole clusters are drawn with
replacement, and the mean of a resample is the ratio of its sum to its number of values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

BLOCK = 4_000_000
"""Numbers (resamples times clusters) that are turned into floats at once: 32 MB."""


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    clusters: Sequence[str] | np.ndarray,
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean under resampling of clusters.

    Args:
        values: one number per question; NaN is left out.
        clusters: the document of each question.
        samples: number of resamples.
        confidence: level of the interval, in (0, 1).
        seed: same seed, same clusters: same resamples.

    Returns:
        (low, high); (nan, nan) with fewer than two clusters, where nothing can be said.
    """
    means = _resampled_means(*_cluster_sums(values, clusters), samples, seed)
    return _percentiles(means, confidence)


def _cluster_sums(
    values: Sequence[float] | np.ndarray, clusters: Sequence[str] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each cluster that has any, [clusters] each."""
    values = np.asarray(values, dtype=float)
    valid = ~np.isnan(values)
    labels = np.asarray(clusters)
    if len(labels) != len(values):
        raise ValueError(f"{len(values)} values but {len(labels)} clusters")
    _, codes = np.unique(labels[valid], return_inverse=True)
    return np.bincount(codes, weights=values[valid]), np.bincount(codes)


def _resampled_means(sums: np.ndarray, counts: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Mean of each resample, [samples]; empty with fewer than two clusters."""
    if len(sums) < 2:
        return np.empty(0)
    draws = _draws(len(sums), samples, seed)
    step = max(1, BLOCK // len(sums))
    totals = np.stack((sums, counts), axis=1)
    blocks = [draws[first : first + step].astype(float) @ totals for first in range(0, samples, step)]
    resampled_sums, resampled_counts = np.concatenate(blocks).T
    means: np.ndarray = resampled_sums / resampled_counts
    return means


@lru_cache(maxsize=4)
def _draws(clusters: int, samples: int, seed: int) -> np.ndarray:
    """Counts of each cluster in each resample, [samples, clusters].

    Shared by all measures and systems over the same clusters. Draws are Poisson-like around one, so 16
    bits are ample.
    """
    generator = np.random.default_rng(seed)
    draws = np.empty((samples, clusters), dtype=np.uint16)
    for row in draws:
        row[:] = np.bincount(generator.integers(clusters, size=clusters), minlength=clusters)
    draws.flags.writeable = False
    return draws


def _percentiles(means: np.ndarray, confidence: float) -> tuple[float, float]:
    if not len(means):
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)
