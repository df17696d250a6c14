"""Paired comparisons of systems on the same questions: differences, intervals, tests and verdicts.

Questions of one document are not independent, so documents are what is resampled throughout. Many
pairs are compared at once, so that a difference is called shown only after Holm's correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from zrag_core.errors import ZragError
from zrag_core.evaluation.bootstrap import BLOCK, bootstrap_interval

# Sums closer than this share of the whole are ties that rounding broke.
_ROUNDING = 1e-9
_REMEDY = "compare systems that were evaluated on the same questions with this measure"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the questions for which both have a value.

    Attributes:
        system, other: the pair; differences are `system` minus `other`.
        measure: name of the measure.
        n_questions: questions compared.
        n_left_out: questions left out, because one of the two or both have no value.
        n_documents: clusters that the questions fall into.
        difference: difference of the means, in points (hundredths of the measure).
        low, high: its interval, in points; NaN where all questions belong to one document.
        confidence: level of the interval; a difference is shown where `p_holm` is below 1 - confidence.
        p: two-sided bootstrap p-value, see `bootstrap_p_value`.
        p_holm: the same after Holm's correction over all pairs that were compared together.
        p_mcnemar: McNemar's exact p-value, uncorrected; None unless the measure is yes/no. It takes questions
            as independent, so it is too sure where documents have several; the verdict does not use it.
    """

    system: str
    other: str
    measure: str
    n_questions: int
    n_left_out: int
    n_documents: int
    difference: float
    low: float
    high: float
    confidence: float
    p: float
    p_holm: float
    p_mcnemar: float | None

    @property
    def shown(self) -> bool:
        """Whether a difference is shown at this confidence, all comparisons considered."""
        return self.p_holm < 1 - self.confidence

    def verdict(self) -> str:
        """The outcome in one line, for instance "zrag above bm25 by 4.1 points, 95% interval 2.0 to 6.2"."""
        if not self.shown:
            measured = f"{self.difference:z.1f} points, {self._interval(self.low, self.high)}"
            return f"no difference shown between {self.system} and {self.other} ({measured}{self._notes()})"
        if self.difference > 0:
            relation, by, interval = "above", self.difference, self._interval(self.low, self.high)
        else:
            relation, by, interval = "below", -self.difference, self._interval(-self.high, -self.low)
        return f"{self.system} {relation} {self.other} by {by:.1f} points, {interval}{self._notes()}"

    def mirrored(self) -> Comparison:
        """The same comparison, told of `other`; the tests are two-sided, so that their p-values stay."""
        return replace(
            self,
            system=self.other,
            other=self.system,
            difference=0.0 - self.difference,
            low=0.0 - self.high,
            high=0.0 - self.low,
        )

    def _interval(self, low: float, high: float) -> str:
        if np.isnan(low):
            return "no interval from a single document"
        return f"{100 * self.confidence:g}% interval {low:z.1f} to {high:z.1f}"

    def _notes(self) -> str:
        """Remarks that explain why the interval and the verdict, or two counts, do not match."""
        notes = ""
        if not self.shown and (self.low > 0 or self.high < 0):
            notes = f"; corrected p = {self.p_holm:.2g}"
        if self.n_left_out:
            notes += f"; {self.n_left_out:,} question{'s' if self.n_left_out > 1 else ''} left out"
        return notes


def compare(
    values: Mapping[str, Mapping[str, float | None]],
    clusters: Mapping[str, str],
    *,
    measure: str,
    references: Sequence[str] | None = None,
    samples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Comparison]:
    """Compare systems in pairs on the questions that they share.

    The interval is the percentile interval of a bootstrap that draws documents with replacement, widened for
    few documents (see `_widened`).

    Args:
        values: system -> question id -> the measure, a share between 0 and 1; None and NaN say that it is not
            defined there. Order decides the order of the pairs.
        clusters: question id -> the document whose questions belong together.
        measure: name of the measure, for the result.
        references: compare each other system with each of these, no pair twice; left out, all pairs.
        samples: resamples behind each interval and each p-value. No p-value falls below 1 / (samples + 1), and
            Holm's correction multiplies the smallest by the number of pairs.
        confidence: level of the intervals and of the verdicts, in (0, 1).
        seed: same seed and same data give the same result, in whatever order the questions come.

    Returns:
        One comparison per pair: each system with a reference, or each system with those after it.

    Raises:
        ZragError: two systems have no question in common.
        ValueError: a question has no cluster, a reference is not among the systems, confidence is not in
            (0, 1), or there are too few samples to show any difference among so many pairs.
    """
    pairs = _pairs(list(values), references)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    if len(pairs) / (samples + 1) >= 1 - confidence:
        raise ValueError(f"{samples} samples cannot show any difference among {len(pairs)} pairs: take more")
    # Sorted, so that neither sums nor draws depend on the order in which questions come.
    questions = sorted(set().union(*values.values()))
    if missing := [question for question in questions if question not in clusters]:
        raise ValueError(f"{len(missing)} questions have no cluster, {missing[0]!r} first")
    labels = np.array([clusters[question] for question in questions], dtype=str)
    table = {name: np.array([own.get(question) for question in questions], dtype=float) for name, own in values.items()}
    yes_no = all(np.isin(column[~np.isnan(column)], (0, 1)).all() for column in table.values())
    found = []
    for system, other in pairs:
        differences = table[system] - table[other]
        if np.isnan(differences).all():
            raise ZragError(f"{system} and {other} have no question in common", where=measure, remedy=_REMEDY)
        tested = _test(differences, labels, yes_no, samples=samples, confidence=confidence, seed=seed)
        found.append(Comparison(system, other, measure, **tested))
    corrected = holm([comparison.p for comparison in found])
    return [replace(comparison, p_holm=p) for comparison, p in zip(found, corrected, strict=True)]


def _test(
    differences: np.ndarray, labels: np.ndarray, yes_no: bool, *, samples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """The figures of one pair, `p_holm` still uncorrected; differences are NaN where a question is not shared."""
    shared = ~np.isnan(differences)
    compared, documents = differences[shared], labels[shared]
    n_documents = len(np.unique(documents))
    level = _widened(confidence, n_documents)
    low, high = bootstrap_interval(compared, documents, samples=samples, confidence=level, seed=seed)
    p = bootstrap_p_value(compared, documents, samples=samples, seed=seed)
    return {
        "n_questions": len(compared),
        "n_left_out": len(differences) - len(compared),
        "n_documents": n_documents,
        "difference": 100 * float(compared.mean()),
        "low": 100 * low,
        "high": 100 * high,
        "confidence": confidence,
        "p": p,
        "p_holm": p,
        "p_mcnemar": mcnemar_p_value(compared) if yes_no else None,
    }


def bootstrap_p_value(
    differences: Sequence[float] | np.ndarray,
    clusters: Sequence[str] | np.ndarray,
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of "the two systems are equally good", by a wild cluster bootstrap under that hypothesis.

    Each resample keeps or reverses, with probability 1/2 each, the sign of all differences of a document
    together: as if the two systems had been swapped there. The p-value is (1 + the number of resamples whose
    mean difference is at least as far from zero as the measured one) / (1 + samples).

    This is the wild cluster bootstrap with Rademacher weights and the null hypothesis imposed (Cameron, Gelbach
    and Miller 2008, Review of Economics and Statistics 90:414), not studentised, which is valid for few clusters
    too (Canay, Santos and Shaikh 2021, Review of Economics and Statistics 103:346). It is also the approximate
    randomisation test of Noreen (1989), by documents. One is added on both sides, so that no finite number of
    resamples claims certainty (Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology
    9:39). Reading the p-value off the interval's own resamples would reject far too often where documents are
    few. Below six documents the p-value stays above 0.05: 2 of 2^5 sign patterns are as extreme as all signs alike.

    Args:
        differences: one per question, without NaN.
        clusters: the document of each question.
        samples: number of resamples.
        seed: same seed, same data: same value.
    """
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(codes, weights=np.asarray(differences, dtype=float))
    total = sums.sum()
    threshold = abs(total) - _ROUNDING * np.abs(sums).sum()
    generator = np.random.default_rng(seed)
    step = max(1, BLOCK // len(sums))
    extreme = 0
    for first in range(0, samples, step):
        kept = generator.integers(2, size=(min(step, samples - first), len(sums)), dtype=np.int8)
        swapped_totals = 2 * (kept.astype(float) @ sums) - total
        extreme += int((np.abs(swapped_totals) >= threshold).sum())
    return (1 + extreme) / (1 + samples)


def mcnemar_p_value(differences: Sequence[float] | np.ndarray) -> float:
    """McNemar's exact two-sided p-value: is a question won as often as lost?

    Among the questions where the systems disagree, wins are binomial with probability 1/2 if they are equally good
    (McNemar 1947, Psychometrika 12:153, without its normal approximation).

    Args:
        differences: 1, 0 or -1 per question.
    """
    from scipy.stats import binomtest

    differences = np.asarray(differences)
    won, lost = int((differences > 0).sum()), int((differences < 0).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values after Holm's step-down correction, in the order given.

    Rejecting those below alpha keeps the chance of any false rejection in the family below alpha, whatever the
    dependence between the tests (Holm 1979, Scandinavian Journal of Statistics 6:65).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(p) for p in corrected]


def _widened(confidence: float, clusters: int) -> float:
    """The level at which the percentile interval of so few clusters holds the truth at `confidence`.

    Percentiles of resampled means leave out the factor sqrt(n / (n - 1)) and the t distribution's wider tails: at
    ten documents "95%" holds the truth in 90% of the cases. The expanded percentile interval makes up for both
    (Hesterberg 2015, The American Statistician 69:371); with hundreds of documents it changes nothing.
    """
    from scipy.stats import norm, t

    if clusters < 2:
        return confidence
    quantile = t.ppf((1 + confidence) / 2, clusters - 1) * np.sqrt(clusters / (clusters - 1))
    return float(1 - 2 * norm.sf(quantile))


def _pairs(systems: list[str], references: Sequence[str] | None) -> list[tuple[str, str]]:
    if references is None:
        return list(combinations(systems, 2))
    if missing := [reference for reference in references if reference not in systems]:
        raise ValueError(f"the reference {missing[0]!r} is not among the systems: {', '.join(systems)}")
    pairs: list[tuple[str, str]] = []
    for place, reference in enumerate(references):
        pairs += [(system, reference) for system in systems if system not in references[: place + 1]]
    return pairs
