"""What a pretrained LLM learns to read from: examples that are answered by what is shown."""

import random
import re

from zrag_core.model.training.reading_data import AskedPiece, ReadingSource

PIECES = [
    (f"Isle {n}", [f"The isle of Arlan number {n} was settled in 16{n:02} by sailors from Venn.", f"It has {n} wells."])
    for n in range(30)
]
ASKED = [
    (0.8, [AskedPiece(f"When was isle {n} settled?", n, 0) for n in range(30)]),
    (0.2, [AskedPiece(f"Who keeps the light of isle {n}?", n, None) for n in range(30)]),
]


def examples(seed, n=400):
    rng = random.Random(seed)
    source = ReadingSource(PIECES, ASKED)
    return [example for _ in range(n // 8) for example in source.draw(rng, 8)]


def test_the_same_seed_gives_the_same_examples():
    assert examples(1, 40) == examples(1, 40)
    assert examples(1, 40) != examples(2, 40)


def test_targets_stand_in_what_is_shown_or_nothing_answers():
    drawn = examples(3)
    for example in drawn:
        if example.task == "question":
            assert example.target == example.question
        elif example.target:
            assert example.target in example.sentences
        else:
            assert example.task == "quote"
    quotes = [example for example in drawn if example.task == "quote"]
    unanswered = sum(not example.target for example in quotes) / len(quotes)
    assert 0.15 < unanswered < 0.35
    assert all(not example.target for example in quotes if "light" in example.question)
    assert {example.task for example in drawn} == {"repeat", "quote", "question"}
    assert max(len(example.sentences) for example in quotes) > 3


def test_in_a_fifth_names_and_numbers_are_others_everywhere_alike():
    known = {sentence for _, sentences in PIECES for sentence in sentences}
    drawn = examples(5)
    swapped = [e for e in drawn if not set(e.sentences) <= known]
    assert 0.1 < len(swapped) / len(drawn) < 0.3
    for example in swapped:
        if example.task == "quote" and example.target:
            numbers = set(re.findall(r"\d+", example.question)) - set(re.findall(r"\d+", "".join(example.sentences)))
            # A number of the question that the sentences share was exchanged in both.
            assert not numbers & {"1600", "1601"}
