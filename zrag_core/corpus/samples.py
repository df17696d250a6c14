"""Fixed samples: which documents and questions stay when a limit is set.

What is drawn depends on the seed, an item's own id and the sizes of the splits, so a sample hardly changes when the
corpus grows, and not at all with the order of its rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from zrag_core.corpus.types import Corpus, Question
from zrag_core.settings import EvaluationSettings


def hash_unit(seed: int, purpose: str, key: str) -> float:
    """Map (seed, purpose, key) to a number in [0, 1), evenly and without regard to anything else."""
    digest = hashlib.sha256(f"{seed}\x1f{purpose}\x1f{key}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56  # 56 bits: a quotient of 64 could round up to 1


def hash_order(ids: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Sort ids into their fixed random order."""
    return sorted(ids, key=lambda value: (hash_unit(seed, purpose, value), value))


def limit_documents(corpus: Corpus, limit: int | None, seed: int) -> Corpus:
    """Keep at most `limit` documents and the questions whose gold documents are all among them.

    Unanswerable questions stay with the document that they were asked about: those about others are easy to refuse.

    Where questions need several gold documents, those of hash-sampled questions come first, up to half of the limit,
    so that such questions stay answerable, and other documents fill up as distractors. Else documents that
    questions are about come first. Rows keep their order; what is left out is counted in the notes.
    """
    if limit is None or len(corpus.documents) <= limit:
        return corpus
    chosen: dict[str, None] = {}
    if any(len(question.document_ids) > 1 for question in corpus.questions):
        chosen.update(dict.fromkeys(_gold_of_sampled_questions(corpus.questions, limit // 2, seed)))
    else:
        asked = {document_id for question in corpus.questions for document_id in question.document_ids}
        chosen.update(dict.fromkeys(hash_order(asked, seed, "documents")))
    chosen.update(dict.fromkeys(hash_order((document.id for document in corpus.documents), seed, "documents")))
    kept = set(list(chosen)[:limit])
    documents = tuple(document for document in corpus.documents if document.id in kept)
    names = {name for document in documents for name in (document.id, document.source_id)}
    questions = tuple(
        question
        for question in corpus.questions
        if kept.issuperset(question.document_ids) and question.metadata.get("about_document", documents[0].id) in names
    )
    notes = [f"limit_documents: {len(documents)} of {len(corpus.documents)} documents kept (seed {seed})"]
    if lost := len(corpus.questions) - len(questions):
        notes.append(f"limit_documents: {lost} questions left out because their documents were")
    return replace(corpus, documents=documents, questions=questions, notes=(*corpus.notes, *notes))


def _gold_of_sampled_questions(questions: Sequence[Question], budget: int, seed: int) -> list[str]:
    gold = {question.id: question.document_ids for question in questions}
    chosen: dict[str, None] = {}
    for question_id in hash_order(gold, seed, "questions"):
        new = [document_id for document_id in gold[question_id] if document_id not in chosen]
        if len(chosen) + len(new) <= budget:
            chosen.update(dict.fromkeys(new))
        if len(chosen) == budget:
            break
    return list(chosen)


def limit_questions(corpus: Corpus, limit: int | None, seed: int) -> Corpus:
    """Keep at most `limit` questions, a fixed sample; rows keep their order and the notes count the rest."""
    questions = question_sample(corpus.questions, limit, seed, "questions")
    if len(questions) == len(corpus.questions):
        return corpus
    note = f"limit_questions: {len(questions)} of {len(corpus.questions)} questions kept (seed {seed})"
    return replace(corpus, questions=tuple(questions), notes=(*corpus.notes, note))


def evaluated_questions(corpus: Corpus, settings: EvaluationSettings) -> list[Question]:
    """Questions of the evaluated splits and types, in corpus order; a fixed sample where a limit is set."""
    questions = [
        question
        for question in corpus.questions
        if question.split in settings.splits and question.question_type in settings.question_types
    ]
    return question_sample(questions, settings.limit_questions, settings.seed, "evaluation")


def question_sample(questions: Sequence[Question], limit: int | None, seed: int, purpose: str) -> list[Question]:
    """At most `limit` of the questions, the same for the same seed and purpose; they keep their order."""
    if limit is None or len(questions) <= limit:
        return list(questions)
    kept = sample_by_split({question.id: question.split for question in questions}, limit, seed, purpose)
    return [question for question in questions if question.id in kept]


def sample_by_split(splits: Mapping[str, str], limit: int, seed: int, purpose: str) -> set[str]:
    """Ids of at most `limit` questions, of every split in proportion to its size.

    Args:
        splits: the split of each question, by id.
    """
    kept: set[str] = set()
    for split, share in _shares(Counter(splits.values()), limit).items():
        own = (question_id for question_id, found in splits.items() if found == split)
        kept.update(hash_order(own, seed, purpose)[:share])
    return kept


def _shares(sizes: Mapping[str, int], limit: int) -> dict[str, int]:
    """Divide `limit` in proportion to sizes, by largest remainders."""
    total = sum(sizes.values())
    limit = min(limit, total)
    shares = {name: limit * size // total for name, size in sizes.items()}
    rest = sorted(sizes, key=lambda name: (-(limit * sizes[name] % total), name))
    for name in rest[: limit - sum(shares.values())]:
        shares[name] += 1
    return shares
