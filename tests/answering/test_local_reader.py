"""What the local reader makes of a small model's words: they stay where the evidence says them."""

import pytest

from zrag_core.answering.local import best_piece, is_supported

PIECE = "Own car: 0.34 euros per kilometre, with prior consent."
QUESTION = "How much do I get per km when I use my own car?"


@pytest.mark.parametrize(
    ("answer", "supported"),
    [
        ("0.34 euros per kilometre", True),
        ("It is 0.34 euros.", True),
        ("1.20 euros per kilometre", False),
        ("my own car", False),
        ("0.34 dollars", False),
        ("", False),
    ],
)
def test_words_that_the_evidence_does_not_say_are_found(answer, supported):
    assert is_supported(answer, QUESTION, PIECE) is supported


def test_the_best_piece_is_the_first_line_or_more_where_it_is_short():
    assert best_piece(f"\n{PIECE}\nMeals are paid.") == PIECE
    assert best_piece("Rate: 3\nThe rate holds for all rooms.\nMore.") == "Rate: 3\nThe rate holds for all rooms."
    assert best_piece(" \n") == ""
