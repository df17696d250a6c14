"""The deletion check: what leaks fails it, and what guessing or other documents tell does not."""

from dataclasses import replace

import pytest
import torch
from memory_fixtures import (
    DOCUMENTS,
    PEOPLE,
    QUESTIONS,
    TOWNS,
    by_name,
    checkpoint_of,
    from_memory,
    from_theta,
    reader,
)

from zrag_core.corpus.types import Document, Question
from zrag_core.model.checks.deletion import deleted_leak_coverage
from zrag_core.model.checks.probe import Probe


@pytest.fixture
def joint(tmp_path):
    return checkpoint_of("joint", tmp_path)


def test_deleted_facts_that_are_still_told_fail_the_deletion_check(joint, monkeypatch):
    reader(monkeypatch, from_theta)
    found = by_name(deleted_leak_coverage(Probe(joint, QUESTIONS)))
    leak, floor = found["deleted_leak_coverage"], found["deleted_floor_coverage"]
    assert (leak.value, floor.value) == (1.0, 0.0)
    assert leak.threshold == pytest.approx(0.05)
    assert leak.passed is False


def test_a_memory_that_forgets_passes_the_deletion_check(joint, monkeypatch):
    reads = []
    reader(monkeypatch, lambda row, question: reads.append((row, question)) or from_memory(row, question))
    found = by_name(deleted_leak_coverage(Probe(joint, QUESTIONS)))
    assert (found["deleted_leak_coverage"].value, found["deleted_leak_coverage"].passed) == (0.0, True)
    assert len(reads) == len(QUESTIONS), "every document is deleted once"
    assert all(DOCUMENTS[row].title not in question for row, question in reads)


def test_a_fifth_is_deleted_at_a_time_and_routing_never_sees_it(joint, monkeypatch):
    probe = Probe(joint, QUESTIONS)
    scores, deleted = probe.scores, []

    def record(numbers, kept=None):
        gone = set(range(len(DOCUMENTS))) - set(kept)
        assert gone == {probe.asked[number].gold[0] for number in numbers}
        deleted.append(gone)
        return scores(numbers, kept)

    monkeypatch.setattr(probe, "scores", record)
    reader(monkeypatch, from_memory)
    deleted_leak_coverage(probe)
    assert [len(gone) for gone in deleted] == [2] * 5
    assert set.union(*deleted) == set(range(len(DOCUMENTS)))


def test_what_another_document_says_is_no_leak(joint, monkeypatch):
    """A fact that stands in two documents is not gone with one of them."""
    twice = tuple(
        replace(document, text=f"{DOCUMENTS[n - 1].title} was born in {TOWNS[n - 1]}. {document.text}")
        for n, document in enumerate(DOCUMENTS)
    )
    probe = Probe(replace(joint, documents=twice), QUESTIONS)
    # Routing prefers the documents that repeat the fact.
    monkeypatch.setattr(
        probe,
        "scores",
        lambda numbers, kept: torch.tensor(
            [[float(row == (probe.asked[n].gold[0] + 1) % 10) for row in kept] for n in numbers]
        ),
    )
    reader(monkeypatch, lambda row, question: twice[row].text)
    found = by_name(deleted_leak_coverage(probe))
    assert found["deleted_leak_coverage"].value == 0.0


def test_what_guessing_covers_is_no_leak(joint, monkeypatch):
    reader(monkeypatch, lambda row, question: " ".join(TOWNS))  # says every town there is
    found = by_name(deleted_leak_coverage(Probe(joint, QUESTIONS)))
    leak, floor = found["deleted_leak_coverage"], found["deleted_floor_coverage"]
    assert (leak.value, floor.value, leak.passed) == (1.0, 1.0, True)
    assert leak.threshold == pytest.approx(1.05)


def test_the_guessing_floor_is_of_questions_alike(joint, monkeypatch):
    """Guesses at towns say nothing on how well ages are guessed."""
    ages = [
        Question(f"a{n}", f"How many bees does {person} own?", (str(100 + n),), (f"d{n}",), split="test")
        for n, person in enumerate(PEOPLE)
    ]
    reader(monkeypatch, lambda row, question: " ".join(TOWNS) if "born" in question else "none at all")
    monkeypatch.setattr("zrag_core.model.checks.deletion._ALIKE", 4)
    found = by_name(deleted_leak_coverage(Probe(joint, [*QUESTIONS, *ages])))
    assert found["deleted_floor_coverage"].value == found["deleted_leak_coverage"].value == 0.5


def test_alike_questions_are_so_without_the_names(joint, monkeypatch):
    """Titles that share most of their words do not make a question about towns one about ages."""
    families = ("Old Mill Road House", "Green Marsh Lane Farm")
    documents = tuple(
        Document(f"d{n}", f"{families[n % 2]} {n}", f"It stands in {town}.") for n, town in enumerate(TOWNS)
    )
    towns = [
        Question(f"t{n}", f"{document.title} town?", (town,), (document.id,), split="test")
        for n, (document, town) in enumerate(zip(documents, TOWNS, strict=True))
    ]
    ages = [
        Question(f"a{n}", f"{document.title} age?", (str(100 + n),), (document.id,), split="test")
        for n, document in enumerate(documents)
    ]
    reader(monkeypatch, lambda row, question: " ".join(TOWNS) if "town" in question else "unknown")
    monkeypatch.setattr("zrag_core.model.checks.deletion._ALIKE", 3)
    found = by_name(deleted_leak_coverage(Probe(replace(joint, documents=documents), [*towns, *ages])))
    assert found["deleted_floor_coverage"].value == 0.5
