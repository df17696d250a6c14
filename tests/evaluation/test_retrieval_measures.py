"""Recall and reciprocal rank, by their definitions."""

from hypothesis import given
from hypothesis import strategies as st

from zrag_core.evaluation.metrics.retrieval import recall_all_at, recall_at, reciprocal_rank

IDS = st.lists(st.sampled_from("abcdefgh"), unique=True)


def test_by_hand():
    ranked = ["c", "a", "b"]
    assert recall_at(1, ranked, ["a", "b"]) == 0.0
    assert recall_at(2, ranked, ["a", "b"]) == 1.0
    assert recall_all_at(2, ranked, ["a", "b"]) == 0.0
    assert recall_all_at(3, ranked, ["a", "b"]) == 1.0
    assert reciprocal_rank(ranked, ["a", "b"]) == 0.5
    assert reciprocal_rank(ranked, ["z"]) == 0.0
    assert reciprocal_rank([], ["z"]) == 0.0


def test_nothing_to_find_is_no_score():
    assert recall_at(5, ["a"], []) is None
    assert recall_all_at(5, ["a"], []) is None
    assert reciprocal_rank(["a"], []) is None


@given(ranked=IDS, gold=IDS.filter(bool), k=st.integers(1, 10))
def test_the_measures_agree_with_each_other(ranked, gold, k):
    rank = next((i for i, d in enumerate(ranked, 1) if d in gold), None)
    assert reciprocal_rank(ranked, gold) == (1 / rank if rank else 0.0)
    assert recall_at(k, ranked, gold) == float(rank is not None and rank <= k)
    assert recall_all_at(k, ranked, gold) == float(all(d in ranked[:k] for d in gold))
    assert recall_all_at(k, ranked, gold) <= recall_at(k, ranked, gold) <= recall_at(k + 1, ranked, gold)
