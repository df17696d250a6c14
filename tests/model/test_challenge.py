"""Champion and challenger: which questions both are asked, and when the new memory passes."""

from dataclasses import replace

import pytest
from memory_fixtures import DOCUMENTS, QUESTIONS, checkpoint_of

from zrag_core.evidence import Retrieved
from zrag_core.model.checks import challenge as module
from zrag_core.model.checks.challenge import ChallengeRules, challenge, shared_questions
from zrag_core.settings import DecodingSettings


@pytest.fixture
def checkpoint(tmp_path):
    return checkpoint_of("separated", tmp_path)


def told(monkeypatch, known):
    """Replace both memories by ones that tell the answers of the questions that `known(side, system, number)` names."""

    class Told:
        def __init__(self, name, checkpoint, decoding, *, free, threads):
            assert free == (name == "zrag_free")
            self.name, self.side = name, checkpoint.id

        def retrieve(self, questions):
            numbers = [(question, int(question.id[1:])) for question in questions]
            return [
                Retrieved(
                    question.id,
                    text=question.golden_answers[0] if known(self.side, self.name, number) else "nothing",
                )
                for question, number in numbers
            ]

    monkeypatch.setattr(module, "create_system", Told)


def run(checkpoint, margin=2.0):
    challenger, champion = replace(checkpoint, id="challenger"), replace(checkpoint, id="champion")
    return challenge(challenger, champion, QUESTIONS, DecodingSettings(), ChallengeRules(64, margin))


def test_a_memory_is_not_inferior_to_itself(checkpoint):
    results = run(checkpoint, margin=0.001)
    assert [result.system for result in results] == ["zrag", "zrag_free"]
    assert all(result.passed and result.comparison.difference == 0 for result in results)


def test_a_better_one_passes_and_a_worse_one_does_not(checkpoint, monkeypatch):
    told(monkeypatch, lambda side, system, number: side == "challenger" or number % 2 == 0)
    assert [result.passed for result in run(checkpoint)] == [True, True]
    told(monkeypatch, lambda side, system, number: side == "champion" or number % 2 == 0)
    assert [result.passed for result in run(checkpoint)] == [False, False]


def test_each_way_of_reading_is_judged_by_itself(checkpoint, monkeypatch):
    told(monkeypatch, lambda side, system, number: side == "champion" or system == "zrag" or number > 4)
    verbatim, free = run(checkpoint)
    assert (verbatim.passed, free.passed) == (True, False)
    assert free.comparison.difference == pytest.approx(-50)
    assert "may be inferior (-50.0 points" in free.sentence()


def test_the_lower_bound_decides_and_not_the_mean(checkpoint, monkeypatch):
    # Two won, two lost of ten: equal means, but anything from -50 to +50 is possible.
    told(monkeypatch, lambda side, system, number: number not in ((0, 1) if side == "champion" else (2, 3)))
    (result, _) = run(checkpoint)
    assert result.comparison.difference == 0
    assert not result.passed
    assert run(checkpoint, margin=90)[0].passed


def test_without_an_interval_nobody_passes(checkpoint, monkeypatch):
    told(monkeypatch, lambda side, system, number: True)
    one = challenge(
        *(replace(checkpoint, id=side) for side in ("challenger", "champion")),
        QUESTIONS[:1],
        DecodingSettings(),
        ChallengeRules(64, 2.0),
    )
    assert not any(result.passed for result in one)


def test_only_held_out_questions_about_documents_that_both_hold_are_shared(checkpoint):
    changed = replace(DOCUMENTS[0], text="Orla Venn was born elsewhere.")
    champion = replace(checkpoint, documents=(changed, *DOCUMENTS[2:]))
    asked = [
        *QUESTIONS,
        replace(QUESTIONS[2], id="trained", split="train"),
        replace(QUESTIONS[3], id="two", document_ids=("d3", "d1")),
        replace(QUESTIONS[4], id="both", document_ids=("d4", "d5")),
        replace(QUESTIONS[5], id="yes", golden_answers=("yes",)),
        replace(QUESTIONS[6], id="none", golden_answers=(), document_ids=()),
    ]
    found = {question.id for question in shared_questions(checkpoint, champion, asked, 100)}
    assert found == {*(f"q{n}" for n in range(2, 10)), "both"}


def test_the_sample_is_fixed_whatever_the_order(checkpoint):
    first = shared_questions(checkpoint, checkpoint, QUESTIONS, 4)
    assert first == shared_questions(checkpoint, checkpoint, QUESTIONS[::-1], 4)
    assert len(first) == 4
