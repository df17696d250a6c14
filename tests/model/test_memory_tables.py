"""The tables of a memory together: how many documents hold a word, and what does not fit is refused."""

import pytest
import torch

from zrag_core.model.architecture.document_words import document_frequency
from zrag_core.model.architecture.memory_tables import KEYS, SLOTS, MemoryTables, rearranged
from zrag_core.model.architecture.slot_router import inverse_frequency

CPU = torch.device("cpu")


@pytest.fixture
def held(remembering):
    return remembering.held


def restored(held, stored):
    return MemoryTables.restored(list(held.tables), stored, held.absent, CPU)


def test_what_is_stored_is_restored_and_words_that_nobody_says_take_no_room(held, documents):
    stored = held.stored()
    again = restored(held, stored)
    assert len(again) == len(held) == len(documents)
    assert torch.equal(again.frequency, document_frequency(documents))
    assert again.frequency.dtype == held.frequency.dtype == torch.int32
    assert len(stored["frequency.word"]) == int((held.frequency > 0).sum()) < len(held.frequency)
    assert again.stored().keys() == stored.keys()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in again.stored().items())
    assert torch.equal(again.idf, inverse_frequency(held.frequency, len(documents)))


def test_tables_of_different_documents_are_refused(held):
    fewer = held.tables[KEYS].select([0, 1]).stored(KEYS)
    with pytest.raises(ValueError, match="different numbers of documents"):
        restored(held, {**held.stored(), **fewer})
    with pytest.raises(KeyError):
        restored(held, {name: value for name, value in held.stored().items() if not name.startswith(SLOTS)})


def test_documents_of_two_memories_in_a_new_order(held):
    other = {name: table.select([4, 2]) for name, table in held.tables.items()}
    mixed = rearranged(held.tables, other, [6, 0, 5, 3])
    assert mixed.keys() == held.tables.keys()
    for name, table in mixed.items():
        expected = held.tables[name].select([2, 0, 4, 3])
        assert torch.equal(table.counts, expected.counts)
        assert all(torch.equal(table.columns[column], value) for column, value in expected.columns.items())
