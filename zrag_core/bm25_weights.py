"""BM25's term weights (Robertson & Zaragoza 2009), where a memory compares words; for floats, arrays and tensors alike.

The BM25 baselines have parameters of their own in the settings; what a memory keeps must not depend on a run's.
"""

from __future__ import annotations

from typing import Any

K1, B = 1.2, 0.75
"""Term saturation and length normalisation (the usual values)."""


def absence_odds(frequency: Any, n_documents: int) -> Any:
    """Odds that one of N documents does not hold a term which `frequency` of them hold; idf is log(odds) or log1p."""
    return (n_documents - frequency + 0.5) / (frequency + 0.5)


def term_weight(frequency: Any, length: int, average: float, idf: Any = 1.0) -> Any:
    """Weight of a term that stands `frequency` times in a text of `length` terms, of `average` in the collection."""
    return idf * (K1 + 1) * frequency / (frequency + K1 * (1 - B + B * length / average))
