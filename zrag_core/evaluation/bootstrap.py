"""Confidence intervals that resample documents, because questions of one document are not independent.

The cluster bootstrap (Davison and Hinkley 1997, section 3.8): whole clusters are drawn with
replacement, and the mean of a resample is the ratio of its sum to its number of values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Resamples turned into floats at once, times clusters: 32 MB.
_BLOCK = 4_000_000


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Difference of two systems' means over the same questions.

    Attributes:
        difference: mean of a minus mean of b.
        low, high: interval of the difference.
        p_value: two-sided, the share of resamples on the other side of zero, doubled.
        n: questions that both systems have a value for.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int


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


def paired_difference(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    clusters: Sequence[str] | np.ndarray,
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Compare two systems on the same questions, aligned by position; NaN in either leaves the pair out."""
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    valid = differences[~np.isnan(differences)]
    if not len(valid):
        return PairedDifference(np.nan, np.nan, np.nan, np.nan, 0)
    means = _resampled_means(*_cluster_sums(differences, clusters), samples, seed)
    low, high = _percentiles(means, confidence)
    p_value = np.nan
    if len(means):
        # One is added on both sides, so that no finite number of resamples claims certainty.
        tail = min((means <= 0).sum(), (means >= 0).sum())
        p_value = min(1.0, 2 * (tail + 1) / (samples + 1))
    return PairedDifference(float(valid.mean()), low, high, float(p_value), len(valid))


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
    step = max(1, _BLOCK // len(sums))
    totals = np.stack((sums, counts), axis=1)
    blocks = [draws[first : first + step].astype(float) @ totals for first in range(0, samples, step)]
    resampled = np.concatenate(blocks)
    return resampled[:, 0] / resampled[:, 1]


@lru_cache(maxsize=4)
def _draws(clusters: int, samples: int, seed: int) -> np.ndarray:
    """How often each cluster is drawn in each resample, [samples, clusters].

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
