"""Splits by fact: questions that ask for the same thing never stand on both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from zrag_core.corpus.samples import hash_unit
from zrag_core.corpus.types import Question
from zrag_core.settings import SplitSettings
from zrag_core.text import comparison_key

_FORM = 10  # documents


def assign_splits(questions: Sequence[Question], settings: SplitSettings, seed: int) -> list[Question]:
    """Give every question without a split one; the result keeps the order.

    A question with neither answers nor gold documents is "unanswerable". The others are grouped into facts: two
    questions ask for the same fact when they share the `fact_id`, a gold document and the evidence, a gold document
    and an answer, or the question's words (see `wording_keys`). Whole facts go to train, dev or test by a hash of the
    seed and the smallest question id in them, so the shares are shares of facts, and the order of the questions and
    the rest of the corpus do not matter. Splits that a source brings stay; the rest of such a fact follows them.
    """
    assigned = {
        question.id: question.split or ("" if _answerable(question) else "unanswerable") for question in questions
    }
    open_facts: dict[str, list[str]] = {}
    for members in group_by_fact([question for question in questions if assigned[question.id] != "unanswerable"]):
        given = {assigned[question_id] for question_id in members} - {""}
        if given:
            # Where a source put one fact on several sides, its other questions are kept from being measured.
            follow = given.pop() if len(given) == 1 else "train"
            assigned.update({question_id: assigned[question_id] or follow for question_id in members})
        else:
            open_facts[members[0]] = members
    for key, split in split_by_hash(list(open_facts), settings, seed).items():
        assigned.update(dict.fromkeys(open_facts[key], split))
    return [replace(question, split=assigned[question.id]) for question in questions]


def split_by_hash(keys: Sequence[str], settings: SplitSettings, seed: int) -> dict[str, str]:
    """Send each key to "train", "dev" or "test" by its hash, in the shares of `settings`.

    With few keys chance may leave a split empty; it then takes the key nearest to its own range from the largest
    split, as long as that keeps one. "test", without which nothing is measured, takes the last one, too.
    """
    bounds = {
        "test": (0.0, settings.test),
        "train": (settings.test + settings.dev, 1.0),
        "dev": (settings.test, settings.test + settings.dev),
    }
    place = {key: hash_unit(seed, "split", key) for key in sorted(keys)}
    chosen = {
        key: next(name for name, (start, end) in bounds.items() if start <= value < end) for key, value in place.items()
    }
    for name, (start, end) in bounds.items():
        sizes = Counter(chosen.values())
        largest = max(bounds, key=lambda split: (sizes[split], split == "dev"))
        least = 1 if name == "test" else 2
        if start < end and not sizes[name] and sizes[largest] >= least:
            donors = [key for key, split in chosen.items() if split == largest]
            middle = (start + end) / 2
            chosen[min(donors, key=lambda key: abs(place[key] - middle))] = name
    return chosen


def group_by_fact(questions: Sequence[Question]) -> Iterator[list[str]]:
    """Group questions into facts (see `assign_splits`); yields sorted question ids, one list per fact."""
    parent = {question.id: question.id for question in questions}

    def root(question_id: str) -> str:
        while parent[question_id] != question_id:
            parent[question_id] = parent[parent[question_id]]  # path halving
            question_id = parent[question_id]
        return question_id

    first: dict[Hashable, str] = {}
    forms = form_wordings(questions)
    for question in questions:
        for key in (*wording_keys(question.question, question.document_ids, forms), *_keys(question)):
            parent[root(question.id)] = root(first.setdefault(key, question.id))
    members: Mapping[str, list[str]] = defaultdict(list)
    for question_id in sorted(parent):
        members[root(question_id)].append(question_id)
    yield from members.values()


def form_wordings(questions: Iterable[Question]) -> set[str]:
    """The words of questions that are asked about many documents and answered differently, as those of a form are."""
    documents: dict[str, set[str]] = defaultdict(set)
    answers: dict[str, set[frozenset[str]]] = defaultdict(set)
    for question in questions:
        wording = comparison_key(question.question)
        documents[wording].update(question.document_ids)
        if question.golden_answers:
            answers[wording].add(frozenset(map(comparison_key, question.golden_answers)))
    return {wording for wording, found in documents.items() if len(found) >= _FORM and len(answers[wording]) != 1}


def wording_keys(question: str, document_ids: Sequence[str], forms: Collection[str]) -> list[Hashable]:
    """What two questions of the same words share.

    The words of a form ask for another fact in each document: a questionnaire of a thousand documents would otherwise
    be one fact.

    Args:
        forms: what `form_wordings` found among all questions.
    """
    wording = comparison_key(question)
    return [(wording, document_id) for document_id in document_ids] if wording in forms else [(wording,)]


def without_twins(questions: Sequence[Question]) -> list[Question]:
    """Leave out unanswerable questions whose words an answerable one has: the corpus does answer them."""
    answered = {comparison_key(q.question) for q in questions if q.split != "unanswerable"}
    return [q for q in questions if q.split != "unanswerable" or comparison_key(q.question) not in answered]


def _keys(question: Question) -> Iterator[Hashable]:
    """What else makes two questions the same fact when they share it."""
    if question.fact_id:
        yield "fact", question.fact_id
    for document_id in question.document_ids:
        if question.evidence is not None:
            yield "evidence", document_id, comparison_key(question.evidence)
        for answer in question.golden_answers:
            yield "answer", document_id, comparison_key(answer)
    if question.evidence is not None and not question.document_ids:
        yield "evidence", comparison_key(question.evidence)


def _answerable(question: Question) -> bool:
    return bool(question.golden_answers or question.document_ids)
