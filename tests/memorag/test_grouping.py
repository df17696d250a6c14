"""Groups hold to their budget, and a change of the corpus changes only those near it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.memorag.text_groups import content_groups
from zrag_core.text import evidence_tokens

TEXTS = [f"Passage number {n} tells of the village of {n * 7919 % 1000}." for n in range(400)]


@given(
    texts=st.lists(st.text(max_size=60), max_size=60),
    budget=st.integers(1, 80),
    least=st.integers(1, 3),
)
def test_groups_are_neighbours_within_the_budget(texts, budget, least):
    groups = content_groups(texts, budget, least=least)
    assert [i for group in groups for i in group] == list(range(len(texts)))
    for group in groups:
        size = sum(evidence_tokens(texts[i]) for i in group)
        assert size <= budget or len(group) <= least
    assert all(len(group) >= least for group in groups[:-1])
    if len(texts) > 1 and least > 1:
        assert len(groups) < len(texts)


def test_what_fits_is_one_group():
    assert content_groups(["가" * 40, "나" * 40], 60) == [range(2)]
    assert content_groups(["가" * 40, "나" * 40], 59) == [range(1), range(1, 2)]
    assert content_groups([], 10) == []


def grouped(texts):
    return [tuple(texts[i] for i in group) for group in content_groups(texts, 200)]


@pytest.mark.parametrize("place", [0, 1, 57, 200, 399])
def test_a_change_stays_where_it_is(place):
    before = set(grouped(TEXTS))
    assert len(before) > 25
    added = [*TEXTS[:place], "A new passage.", *TEXTS[place:]]
    removed = [*TEXTS[:place], *TEXTS[place + 1 :]]
    changed = [*TEXTS[:place], TEXTS[place] + " It burnt down.", *TEXTS[place + 1 :]]
    for texts in (added, removed, changed):
        assert len(set(grouped(texts)) - before) <= 4
