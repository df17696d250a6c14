"""Comparisons against enumeration, closed forms and scipy, and their error rates by simulation."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from zrag_core.errors import ZragError
from zrag_core.evaluation.bootstrap import bootstrap_interval
from zrag_core.evaluation.comparison import Comparison, bootstrap_p_value, compare, holm, mcnemar_p_value

GRID = st.integers(0, 12).map(lambda n: n / 12)
# Questions q0, q1, ... as (document, one system's value, the other's).
QUESTIONS = st.lists(st.tuples(st.sampled_from("abcdef"), GRID, GRID), min_size=1, max_size=12)


def comparison(**changes):
    fields = {
        "system": "zrag",
        "other": "bm25",
        "measure": "f1",
        "n_questions": 200,
        "n_left_out": 0,
        "n_documents": 60,
        "difference": 4.12,
        "low": 2.0,
        "high": 6.24,
        "confidence": 0.95,
        "p": 0.001,
        "p_holm": 0.011,
        "p_mcnemar": None,
    }
    return Comparison(**(fields | changes))


def compare_two(rows, **options):
    """Compare systems a and b, given (document, value of a, value of b) per question."""
    ids = [f"q{i}" for i in range(len(rows))]
    values = {name: {q: row[column] for q, row in zip(ids, rows, strict=True)} for column, name in ((1, "a"), (2, "b"))}
    clusters = {q: row[0] for q, row in zip(ids, rows, strict=True)}
    return compare(values, clusters, measure="f1", **options)[0]


def clustered_null(generator, documents):
    """Differences of two equally good systems: what a document brings is shared by its questions."""
    sizes = generator.integers(1, 9, documents)
    labels = np.repeat(np.arange(documents), sizes)
    return generator.normal(0, 1, documents)[labels] + generator.normal(0, 1, len(labels)), labels.astype(str)


# Against enumeration


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), GRID.map(lambda x: x - 0.5)), min_size=1, max_size=12))
def test_the_p_value_counts_the_ways_of_swapping_the_systems_by_document(rows):
    clusters, differences = zip(*rows, strict=True)
    sums = [sum(d for c, d in rows if c == cluster) for cluster in sorted(set(clusters))]
    patterns = list(itertools.product((-1, 1), repeat=len(sums)))
    extreme = sum(abs(np.dot(pattern, sums)) > abs(sum(sums)) - 1e-9 for pattern in patterns)
    assert bootstrap_p_value(differences, clusters) == pytest.approx(extreme / len(patterns), abs=0.025)


def test_scipy_s_permutation_test_agrees():
    differences = np.random.default_rng(1).normal(0.5, 1.0, 11)
    exact = stats.permutation_test(
        (differences, np.zeros(11)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    found = bootstrap_p_value(differences, np.arange(11).astype(str), samples=20_000)
    assert found == pytest.approx(exact.pvalue, abs=0.015)


def test_the_interval_is_that_of_all_resamples():
    """Five documents of unequal size: all 5^5 resamples, at the level of Hesterberg's expanded percentiles."""
    rows = [("a", 0.9, 0.2), ("b", 0.5, 0.7), ("b", 0.1, 0.3), ("c", 1.0, 0.4), ("d", 0.2, 0.3), ("e", 0.8, 0.5)]
    groups = [[x - y for document, x, y in rows if document == name] for name in "abcde"]
    means = [np.concatenate(drawn).mean() for drawn in itertools.product(groups, repeat=5)]
    tail = stats.norm.sf(math.sqrt(5 / 4) * stats.t.ppf(0.75, 4))
    found = compare_two(rows, confidence=0.5, samples=40_000)
    np.testing.assert_allclose([found.low, found.high], 100 * np.quantile(means, [tail, 1 - tail]), atol=1.0)
    assert found.difference == pytest.approx(100 * np.mean([x - y for _, x, y in rows]))
    assert (found.n_questions, found.n_documents) == (6, 5)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (5, 0), (6, 1), (3, 3), (2, 9), (40, 61)])
def test_mcnemar_is_the_binomial_sum(won, lost):
    n = won + lost
    tail = sum(math.comb(n, k) for k in range(min(won, lost) + 1)) / 2**n
    assert mcnemar_p_value([1] * won + [-1] * lost + [0] * 30) == pytest.approx(min(1, 2 * tail))


def test_with_one_question_a_document_the_bootstrap_is_mcnemar():
    found = compare_two([(f"d{i}", int(i < 15), int(i % 3 == 0 and i > 4)) for i in range(40)])
    assert 0.01 < found.p_mcnemar < 0.9
    assert found.p == pytest.approx(found.p_mcnemar, abs=0.02)


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_is_bonferroni_in_every_subset(p_values):
    """The closure principle: rejected is what Bonferroni rejects in each subset that holds it."""
    indices = range(len(p_values))
    subsets = [s for size in indices for s in itertools.combinations(indices, size + 1)]
    expected = [max(min(1, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s) for i in indices]
    assert holm(p_values) == pytest.approx(expected)


# Error rates


def test_equal_systems_differ_in_one_of_twenty_trials():
    """Documents as clusters keep the level; questions as if they were independent do not."""
    generator = np.random.default_rng(2)
    by_document, by_question = [], []
    for trial in range(400):
        differences, labels = clustered_null(generator, 25)
        by_document.append(bootstrap_p_value(differences, labels, samples=300, seed=trial))
        questions = np.arange(len(labels)).astype(str)
        by_question.append(bootstrap_p_value(differences, questions, samples=300, seed=trial))
    assert 0.025 < np.mean(np.array(by_document) < 0.05) < 0.085
    assert np.mean(np.array(by_question) < 0.05) > 0.2


def test_few_documents_widen_the_interval_to_its_level():
    generator = np.random.default_rng(3)
    held, held_unwidened = 0, 0
    for trial in range(400):
        differences, labels = clustered_null(generator, 8)
        found = compare_two([(d, x, 0.0) for d, x in zip(labels, differences, strict=True)], samples=400, seed=trial)
        held += found.low <= 0 <= found.high
        low, high = bootstrap_interval(differences, labels, samples=400, seed=trial)
        held_unwidened += low <= 0 <= high
    assert held_unwidened / 400 < 0.89 < held / 400


def test_five_documents_never_show_a_difference_and_six_can():
    shown = {n: compare_two([(f"d{i}", 1.0, 0.0) for i in range(n)]).shown for n in (1, 2, 5, 6)}
    assert shown == {1: False, 2: False, 5: False, 6: True}


def test_no_number_of_resamples_claims_certainty():
    assert bootstrap_p_value(np.ones(60), np.arange(60).astype(str), samples=99) == 0.01


# Invariances


@settings(max_examples=40, deadline=None)
@given(QUESTIONS)
def test_swapping_the_systems_changes_the_sign_alone(rows):
    found = compare_two(rows, samples=500)
    swapped = compare_two([(d, b, a) for d, a, b in rows], samples=500)
    assert (swapped.p, swapped.p_mcnemar, swapped.shown) == (found.p, found.p_mcnemar, found.shown)
    expected = (-found.difference, -found.high, -found.low)
    assert (swapped.difference, swapped.low, swapped.high) == pytest.approx(expected, abs=1e-9, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(QUESTIONS, st.data())
def test_what_both_systems_gain_on_a_question_changes_nothing(rows, data):
    gains = data.draw(st.lists(st.floats(-1, 1), min_size=len(rows), max_size=len(rows)))
    found = compare_two(rows, samples=500)
    lifted = compare_two([(d, a + gain, b + gain) for (d, a, b), gain in zip(rows, gains, strict=True)], samples=500)
    assert lifted.p == found.p
    expected = (found.difference, found.low, found.high)
    assert (lifted.difference, lifted.low, lifted.high) == pytest.approx(expected, abs=1e-9, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(QUESTIONS.filter(lambda rows: len({d for d, _, _ in rows}) > 1), st.randoms(use_true_random=False))
def test_the_order_of_questions_does_not_matter(rows, random):
    row = {f"질문{i}": row for i, row in enumerate(rows)}
    shuffled = random.sample(list(row), len(row))

    def compared(order):
        values = {"a": {q: row[q][1] for q in order}, "b": {q: row[q][2] for q in reversed(order)}}
        return compare(values, {q: row[q][0] for q in order}, measure="f1", samples=300)

    assert compared(list(row)) == compared(shuffled)


def test_equal_systems_do_not_differ():
    found = compare_two([(f"d{i}", i / 20, i / 20) for i in range(20)])
    assert (found.difference, found.low, found.high, found.p, found.p_holm) == (0, 0, 0, 1, 1)


def test_the_seed_decides_the_resamples():
    rows = [(f"d{i}", (i * 7 % 11) / 10, 0.4) for i in range(30)]
    first, same, other = (compare_two(rows, seed=seed) for seed in (1, 1, 2))
    assert first == same
    assert first.p != other.p
    assert first.low != other.low


# Families


def family():
    generator = np.random.default_rng(4)
    questions = [f"q{i}" for i in range(150)]
    chances = {"zrag": 0.9, "bm25": 0.6, "메모리": 0.88}
    values = {s: {q: bool(generator.random() < chance) for q in questions} for s, chance in chances.items()}
    return values, {q: f"문서{i // 3}" for i, q in enumerate(questions)}


def test_all_pairs_or_a_reference_with_each_other():
    values, clusters = family()
    found = compare(values, clusters, measure="em")
    assert [(c.system, c.other) for c in found] == [("zrag", "bm25"), ("zrag", "메모리"), ("bm25", "메모리")]
    assert [c.shown for c in found] == [True, False, True]
    assert [c.p_holm for c in found] == holm([c.p for c in found])
    assert found[2].verdict().startswith("bm25 below 메모리 by ")
    assert found[1].verdict().startswith("no difference shown between zrag and 메모리 (")


def test_each_other_system_against_the_references_and_no_pair_twice():
    values, clusters = family()
    all_pairs = compare(values, clusters, measure="em")
    by_reference = compare(values, clusters, measure="em", references=["메모리"])
    assert [(c.system, c.other) for c in by_reference] == [("zrag", "메모리"), ("bm25", "메모리")]
    assert (by_reference[0].p, by_reference[0].difference) == (all_pairs[1].p, all_pairs[1].difference)
    two = compare(values, clusters, measure="em", references=["메모리", "zrag"])
    assert [(c.system, c.other) for c in two] == [("zrag", "메모리"), ("bm25", "메모리"), ("bm25", "zrag")]
    assert [c.p_holm for c in two] == holm([c.p for c in two])


def test_a_mirrored_comparison_tells_the_same_of_the_other_system():
    found = comparison(difference=4.12, low=0.0, high=6.24, p_mcnemar=0.02)
    other = found.mirrored()
    assert other.verdict() == "bm25 below zrag by 4.1 points, 95% interval 0.0 to 6.2"
    assert (other.difference, other.low, other.high) == (-4.12, -6.24, 0.0)
    assert (other.p_holm, other.p_mcnemar, other.n_documents) == (0.011, 0.02, 60)
    assert other.mirrored() == found


def test_one_system_has_nothing_to_be_compared_with():
    assert compare({"zrag": {"q": 1.0}}, {"q": "d"}, measure="em") == []


def test_mcnemar_stands_beside_yes_no_measures_alone():
    values, clusters = family()
    assert all(c.p_mcnemar is not None for c in compare(values, clusters, measure="em"))
    values["메모리"]["q0"] = 0.5
    assert all(c.p_mcnemar is None for c in compare(values, clusters, measure="f1"))


def test_questions_without_a_value_are_left_out_and_counted():
    values, clusters = family()
    complete = [{q: v for q, v in values[s].items() if q not in {"q0", "q5", "q9"}} for s in ("zrag", "bm25")]
    gaps = {
        "zrag": values["zrag"] | {"q0": None},
        "bm25": {q: v for q, v in values["bm25"].items() if q != "q5"} | {"q9": math.nan},
    }
    found = compare(gaps, clusters, measure="em")[0]
    reference = compare(dict(zip(("zrag", "bm25"), complete, strict=True)), clusters, measure="em")[0]
    assert (found.n_questions, found.n_left_out) == (147, 3)
    assert found.verdict() == reference.verdict() + "; 3 questions left out"
    assert (found.low, found.high, found.p, found.p_mcnemar) == (
        reference.low,
        reference.high,
        reference.p,
        reference.p_mcnemar,
    )


# Words


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "zrag above bm25 by 4.1 points, 95% interval 2.0 to 6.2"),
        (
            {"difference": -4.12, "low": -6.24, "high": -2.0, "confidence": 0.9},
            "zrag below bm25 by 4.1 points, 90% interval 2.0 to 6.2",
        ),
        (
            {"difference": -1.0, "low": -2.4, "high": 0.5, "p_holm": 0.3},
            "no difference shown between zrag and bm25 (-1.0 points, 95% interval -2.4 to 0.5)",
        ),
        (
            {"p": 0.02, "p_holm": 0.084},
            "no difference shown between zrag and bm25 (4.1 points, 95% interval 2.0 to 6.2; corrected p = 0.084)",
        ),
        (
            {"difference": -0.01, "low": -0.02, "high": 0.01, "p_holm": 1.0, "n_left_out": 1},
            "no difference shown between zrag and bm25 (0.0 points, 95% interval 0.0 to 0.0; 1 question left out)",
        ),
        ({"n_left_out": 1200}, "zrag above bm25 by 4.1 points, 95% interval 2.0 to 6.2; 1,200 questions left out"),
        (
            {"low": math.nan, "high": math.nan, "p_holm": 1.0},
            "no difference shown between zrag and bm25 (4.1 points, no interval from a single document)",
        ),
    ],
)
def test_verdicts(changes, expected):
    assert comparison(**changes).verdict() == expected


# Errors and bounds


def test_systems_without_a_common_question_are_named():
    with pytest.raises(ZragError, match="em: zrag and bm25 have no question in common -> compare systems"):
        compare({"zrag": {"q1": 1.0, "q2": None}, "bm25": {"q2": 1.0}}, {"q1": "d", "q2": "d"}, measure="em")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"references": ["bm25", "lsa"]}, "'lsa' is not among the systems: zrag, bm25, 메모리"),
        ({"confidence": 95}, "between 0 and 1, not 95"),
        ({"samples": 50}, "50 samples cannot show any difference among 3 pairs"),
        ({"clusters": {"q0": "d"}}, "149 questions have no cluster, 'q1' first"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    values, clusters = family()
    with pytest.raises(ValueError, match=message):
        compare(values, **({"clusters": clusters, "measure": "em"} | options))


def test_memory_stays_bounded():
    differences, clusters = np.random.default_rng(5).normal(size=20_000), np.arange(20_000).astype(str)
    tracemalloc.start()
    bootstrap_p_value(differences, clusters, samples=600)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # 36 MB a block; all signs at once as floats would be 96 MB
