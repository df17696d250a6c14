import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zrag_core.model.architecture.padding import pad

FILL = 99
CPU = torch.device("cpu")


def test_pad_left_and_right():
    ids, mask = pad([[1, 2], [3]], FILL, CPU, left=True)
    assert ids.tolist() == [[1, 2], [99, 3]]
    assert mask.tolist() == [[1, 1], [0, 1]]
    ids, mask = pad([[1, 2], [3]], FILL, CPU)
    assert ids.tolist() == [[1, 2], [3, 99]]
    assert mask.tolist() == [[1, 1], [1, 0]]
    ids, mask = pad([[], []], FILL, CPU)
    assert ids.tolist() == [[99], [99]]
    assert mask.tolist() == [[0], [0]], "a row without tokens still has a place"


# A token may be the fill itself (a backbone without a padding token pads with EOS): the mask alone tells them apart.
@settings(deadline=None)
@given(st.lists(st.lists(st.integers(97, FILL), max_size=6), min_size=1, max_size=4), st.booleans())
def test_the_mask_gives_back_the_sequences_and_nothing_else(sequences, left):
    ids, mask = pad(sequences, FILL, CPU, left=left)
    assert ids.shape == mask.shape == (len(sequences), max(1, *map(len, sequences), 1))
    assert [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)] == sequences
    assert (ids[mask == 0] == FILL).all()
    # All padding is on one side.
    assert (mask.diff(dim=1) >= 0).all() if left else (mask.diff(dim=1) <= 0).all()
