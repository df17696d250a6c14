"""Items of documents in tables, against lists of lists; and vectors in bytes."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.model.architecture.row_table import NUMBERS, SCALE, RowTable, as_bytes
from zrag_core.model.architecture.token_codec import quantise, slot_scales

ROWS = st.lists(st.lists(st.integers(-9, 9), max_size=4), max_size=6)
"""Items of each document."""
NOTHING = -99


@st.composite
def rows_and_chosen(draw):
    """Items of documents, and some of these documents in any order, also twice."""
    rows = draw(ROWS)
    return rows, draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []


def table_of(rows):
    """A table with a number and a pair of numbers an item."""
    items = [item for row in rows for item in row]
    pairs = torch.tensor([[item, 2 * item] for item in items], dtype=torch.float32).view(-1, 2)
    counts = torch.tensor([len(row) for row in rows], dtype=torch.int32)
    return RowTable({"one": torch.tensor(items, dtype=torch.int32), "two": pairs}, counts)


def check(table, rows):
    """That the table is one of these rows."""
    expected = table_of(rows)
    assert (len(table), table.size) == (len(rows), sum(map(len, rows)))
    assert table.counts.dtype == torch.int32
    assert torch.equal(table.counts, expected.counts)
    assert table.columns.keys() == expected.columns.keys()
    for name, column in expected.columns.items():
        assert table.columns[name].dtype == column.dtype
        assert torch.equal(table.columns[name], column)


def filled(rows, fill):
    """Rows as long as the longest of them, which has one place at least."""
    width = max([1, *map(len, rows)])
    return [row + [fill] * (width - len(row)) for row in rows]


@given(ROWS)
def test_the_items_of_a_document_lie_from_its_start_to_the_next(rows):
    table = table_of(rows)
    starts = table.starts.tolist()
    assert [table.columns["one"][a:b].tolist() for a, b in itertools.pairwise(starts)] == rows
    assert table.width == max([1, *map(len, rows)])


@given(rows_and_chosen(), st.booleans())
def test_some_documents_are_chosen_in_any_order(given_rows, as_tensor):
    rows, chosen = given_rows
    check(table_of(rows).select(torch.tensor(chosen) if as_tensor else chosen), [rows[i] for i in chosen])


@given(rows_and_chosen(), st.integers(-3, 3))
def test_padding_is_behind_what_a_document_has(given_rows, fill):
    rows, chosen = given_rows
    table = table_of(rows)
    for given_now, own in ((None, rows), (chosen, [rows[i] for i in chosen])):
        expected = filled(own, fill)
        one, two = table.padded("one", given_now, fill), table.padded("two", given_now, fill)
        assert one.tolist() == expected
        assert two[..., 0].tolist() == expected
        assert two.shape == (len(own), len(expected[0]) if own else 1, 2)
        counts = torch.tensor([len(row) for row in own])
        mask = RowTable.mask(counts, one.shape[1])
        assert mask.tolist() == [[place < len(row) for place in range(one.shape[1])] for row in own]


@given(st.lists(ROWS, min_size=1, max_size=3))
def test_joined_tables_are_one_behind_the_other(parts):
    check(RowTable.joined([table_of(rows) for rows in parts]), [row for rows in parts for row in rows])


@given(st.lists(st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=3, max_size=3), max_size=5))
def test_of_padded_rows_that_is_kept_which_is_used(rows):
    """Also where something unused stands between."""
    items = torch.tensor([[NOTHING if item is None else item for item in row] for row in rows], dtype=torch.int32)
    items = items.view(-1, 3)
    columns = {"one": items, "two": torch.stack([items, 2 * items], -1).float()}
    table = RowTable.of_padded(columns, items != NOTHING)
    check(table, [[item for item in row if item is not None] for row in rows])


@given(ROWS, ROWS)
def test_what_is_stored_beside_others_is_restored(rows, others):
    stored = {**table_of(rows).stored("words"), **table_of(others).stored("title_words")}
    assert set(table_of(rows).stored("words")) == {"words.one", "words.two", "words.count"}
    check(RowTable.restored("words", stored), rows)
    check(RowTable.restored("title_words", stored), others)


@pytest.mark.parametrize("column", ["words.one", "words.two", "words.count"])
@pytest.mark.parametrize("cut", [lambda t: t[:-1], lambda t: torch.cat([t, t[-1:]])], ids=["shorter", "longer"])
def test_columns_that_are_not_as_long_as_their_counts_say_are_refused(column, cut):
    stored = table_of([[1, 2], [], [3]]).stored("words")
    with pytest.raises(ValueError, match="'words' are not as long"):
        RowTable.restored("words", {**stored, column: cut(stored[column])})


# --- vectors in bytes -----------------------------------------------------------------------------


def vectors(n, width, seed, size):
    """Random vectors [n, width] of very different lengths, one of them zero."""
    generator = torch.Generator().manual_seed(seed)
    lengths = 10 ** torch.empty(n, 1).uniform_(*size, generator=generator)
    made = torch.randn(n, width, generator=generator) * lengths
    made[:1] = 0
    return made


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(1, 9), st.integers(0, 2**31))
def test_vectors_come_back_on_their_grid(counts, width, seed):
    made = vectors(sum(counts), width, seed, (-2, 3))
    columns = as_bytes(made)
    assert (columns[NUMBERS].dtype, columns[SCALE].dtype) == (torch.int8, torch.float16)
    table = RowTable(columns, torch.tensor(counts, dtype=torch.int32))
    found, there = table.vectors(), RowTable.mask(table.counts, table.width)
    assert found.dtype == torch.float32
    assert found.shape == (len(counts), table.width, width)
    assert torch.equal(found[there], quantise(made))
    assert ((found[there] - made).abs() <= slot_scales(made) * 0.501).all()
    assert ((found[there] - made).abs() <= 0.01 * made.abs().amax(-1, keepdim=True)).all()
    assert not found[~there].any()
    chosen = [len(counts) - 1, 0]
    for own, row in zip(table.vectors(chosen), chosen, strict=True):
        assert torch.equal(own[: counts[row]], found[row, : counts[row]])


@given(st.integers(0, 5), st.integers(1, 9), st.integers(0, 2**31))
def test_what_is_on_its_grid_stays_in_the_same_bytes(n, width, seed):
    once = quantise(vectors(n, width, seed, (-2, 3)))
    columns = as_bytes(once)
    again = as_bytes(RowTable(columns, torch.tensor([n], dtype=torch.int32)).vectors()[0, :n])
    assert all(torch.equal(column, again[name]) for name, column in columns.items())


@given(st.integers(1, 9), st.integers(0, 2**31))
def test_however_small_vectors_are_no_number_changes_its_sign(width, seed):
    """Below what half precision can tell the grid gets coarse."""
    made = vectors(6, width, seed, (-9, -2))
    columns = as_bytes(made)
    numbers = columns[NUMBERS]
    assert torch.equal(RowTable(columns, torch.ones(6, dtype=torch.int32)).vectors()[:, 0], quantise(made))
    assert numbers.abs().max() <= 127
    assert (numbers.sign() * made.sign() >= 0).all()
