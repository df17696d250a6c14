"""Many byte strings at once, against Python's own search for each of them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.model.checks import byte_search
from zrag_core.model.checks.byte_search import LEAST_BYTES, patterns_in_file

# Few letters, so that strings share their beginnings with one another and with what they do not stand in.
few = st.binary(min_size=0, max_size=120).map(lambda data: bytes(byte % 3 for byte in data))


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """Looks for patterns in bytes that are put into a file."""
    file = tmp_path_factory.mktemp("search") / "numbers"

    def run(patterns, data):
        file.write_bytes(data)
        return patterns_in_file(patterns, file)

    return run


@given(data=few, others=st.lists(few.filter(lambda b: len(b) >= LEAST_BYTES), max_size=5), draw=st.data())
def test_it_finds_what_python_finds(search, data, others, draw):
    patterns = list(others)
    if len(data) >= LEAST_BYTES:
        start = draw.draw(st.integers(0, len(data) - LEAST_BYTES))
        patterns.append(data[start : draw.draw(st.integers(start + LEAST_BYTES, len(data)))])
    wanted = {number for number, pattern in enumerate(patterns) if pattern in data}
    assert search(patterns, data) == wanted


@pytest.mark.parametrize("chunk", [8, 12, 64])
def test_borders_of_what_is_read_at_once_hide_nothing(search, monkeypatch, chunk):
    monkeypatch.setattr(byte_search, "_CHUNK", chunk)
    data = random.Random(0).randbytes(200)
    patterns = [data[start : start + length] for start in range(180) for length in (8, 9, 20)]
    assert search(patterns, data) == set(range(len(patterns)))
    missing = [pattern[:-1] + bytes([pattern[-1] ^ 1]) for pattern in patterns]
    assert search(missing, data) == set()


def test_files_are_searched_as_they_are(search):
    patterns = ["서린도는 섬이다".encode(), b"not in there", bytes(8)]
    assert search(patterns, bytes(1000) + patterns[0] + bytes(7)) == {0, 2}
    assert search(patterns, b"") == set()
    assert search([], b"something") == set()


def test_strings_that_chance_would_find_are_refused(search):
    with pytest.raises(ValueError, match="shorter than 8 bytes"):
        search([b"long enough", b"short"], b"short")
