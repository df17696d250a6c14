"""Reads a corpus of any format: documents are checked and split into passages, questions get their splits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from zrag_core.corpus.cleaning import unique
from zrag_core.corpus.loaders.base import Source, loader_of
from zrag_core.corpus.loaders.native import read_rows
from zrag_core.corpus.loaders.rows import Problems
from zrag_core.corpus.passages import split_long_documents
from zrag_core.corpus.samples import limit_documents, limit_questions
from zrag_core.corpus.self_study import synthetic_questions
from zrag_core.corpus.source import is_there
from zrag_core.corpus.splits import assign_splits, group_by_fact, without_twins
from zrag_core.corpus.targets import EvidenceFinder
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.errors import CorpusError
from zrag_core.settings import CorpusSettings


def read_corpus(settings: CorpusSettings) -> Corpus:
    """Read, check and prepare the corpus that `settings` name.

    Text is brought to Unicode NFC; documents longer than `passage_tokens` become passages; every question gets a
    split before `limit_documents` and `limit_questions` draw their fixed samples, so a question's split does not
    depend on the limits. A corpus without questions gets self-study questions for dev and test. The notes of the
    result tell whatever was left out or made up.

    Raises:
        CorpusError: the source cannot be read or recognised.
        ProblemList: bad rows, all of them, each with its place and reason.
    """
    corpus = _load(settings)
    _check(corpus)
    corpus = split_long_documents(corpus, settings.passage_tokens)
    corpus = _with_splits(corpus, settings)
    corpus = limit_documents(corpus, settings.limit_documents, settings.seed)
    if not corpus.questions:
        made = synthetic_questions(corpus, settings.seed, settings.splits)
        note = (
            f"no questions: {len(made)} self-study questions about held-out sentences stand in for them in dev and "
            "test; they measure routing and reading, not how people ask"
        )
        corpus = replace(corpus, questions=tuple(made), notes=(*corpus.notes, note))
    return limit_questions(corpus, settings.limit_questions, settings.seed)


def read_documents(path: Path, root: Path | None = None) -> tuple[Document, ...]:
    """Read documents that are to join a corpus, cut into passages as every corpus is; questions are not taken.

    Args:
        path: a .jsonl (.gz) file of native rows, or any file or folder that `corpus.location` takes.
        root: folder of the corpus that they join; what lies in it has the ids that it has when the whole is read.

    Raises:
        CorpusError: there is no such file or folder, or it is of no known kind.
        ProblemList: bad rows, all of them, each with its place and reason.
    """
    settings = CorpusSettings(format="auto", location=str(path))
    if not path.exists():
        raise CorpusError("no such file or folder", where=str(path))
    texts = root is not None and root.is_dir() and not any(root.glob("corpus.jsonl*"))
    if root is not None and texts and (inside := _inside(path, root)):
        corpus = _in_folder(*inside, settings.passage_tokens)
    elif path.is_file() and path.name.endswith((".jsonl", ".jsonl.gz")):
        problems = Problems()
        documents, _ = read_rows(path, problems)
        problems.raise_if_any(str(path))
        corpus = Corpus(path.name, tuple(documents), ())
    else:
        corpus = replace(_load(settings), questions=())
    _check(corpus)
    return split_long_documents(corpus, settings.passage_tokens).documents


def _inside(path: Path, root: Path) -> tuple[Path, Path] | None:
    """Both as given, or behind their links, whichever way the path lies below the root; None where it does not."""
    given = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    pairs = (given, (path.resolve(), root.resolve()))
    return next((pair for pair in pairs if pair[0].is_relative_to(pair[1])), None)


def _in_folder(path: Path, root: Path, passage_tokens: int) -> Corpus:
    """A file or folder below a folder of texts, under the ids that it has there."""
    settings = CorpusSettings(format="texts", location=str(path), passage_tokens=passage_tokens)
    corpus = _load(settings)
    above = (path if path.is_dir() else path.parent).relative_to(root).as_posix()
    prefix = "" if above == "." else f"{above}/"
    documents = (replace(d, id=prefix + d.id, source_id=prefix + (d.source_id or d.id)) for d in corpus.documents)
    return replace(corpus, documents=tuple(documents), questions=())


def _load(settings: CorpusSettings) -> Corpus:
    source, loader = Source(settings), loader_of(settings.format)
    if settings.format != "auto" and not is_there(settings):
        raise CorpusError("no such file or folder", where=source.location, remedy="correct corpus.location")
    corpus = loader.load(source)
    return replace(corpus, name=settings.name) if settings.name else corpus


def _check(corpus: Corpus) -> None:
    """Check for documents, unique ids, and questions that name documents of the corpus."""
    if not corpus.documents:
        raise CorpusError("the corpus holds no documents", where=corpus.name, remedy="check corpus.location")
    problems = Problems()
    for what, ids in (
        ("document", [document.id for document in corpus.documents]),
        ("question", [question.id for question in corpus.questions]),
    ):
        for repeated in _repeated(ids):
            problems.add(f"{what} '{repeated}'", "the id is used more than once")
    known = {document.id for document in corpus.documents}
    for question in corpus.questions:
        for document_id in question.document_ids:
            if document_id not in known:
                problems.add(f"question '{question.id}'", f"names '{document_id}', which is not in the corpus")
    problems.raise_if_any(corpus.name)


def _repeated(ids: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(ids).items() if count > 1]


def _with_splits(corpus: Corpus, settings: CorpusSettings) -> Corpus:
    """Assign splits; an unanswerable question that the corpus answers elsewhere is left out."""
    assigned = assign_splits(_located(corpus), settings.splits, settings.seed)
    questions = [replace(old, split=new.split) for old, new in zip(corpus.questions, assigned, strict=True)]
    kept = without_twins(questions)
    notes = _remarks(corpus)
    if twins := len(questions) - len(kept):
        notes.append(f"{twins} unanswerable questions left out: the same words are asked with an answer")
    return replace(corpus, questions=tuple(kept), notes=(*corpus.notes, *notes))


def _located(corpus: Corpus) -> list[Question]:
    """The questions, with the sentence that holds the answer standing in for gold evidence where there is none.

    Two questions whose targets will be the same sentence thus ask for the same fact.
    """
    finder = EvidenceFinder(corpus.documents, corpus.questions)
    located = []
    for question in corpus.questions:
        found = finder.find(question)
        if found:
            document_ids = unique((*question.document_ids, *found.document_ids))
            question = replace(question, evidence=found.evidence, document_ids=document_ids)
        located.append(question)
    return located


def with_facts_apart(changed: Corpus, before: Corpus) -> Corpus:
    """Train on questions whose facts a change of documents has joined across splits, instead of measuring them."""
    joined = _torn(changed) - _torn(before)
    moved = {question.id for question in changed.questions if question.id in joined and question.split != "train"}
    if not moved:
        return changed
    questions = tuple(replace(q, split="train") if q.id in moved else q for q in changed.questions)
    note = f"{len(moved)} questions moved to train: a changed document joins their facts with those of another split"
    return replace(changed, questions=questions, notes=(*changed.notes, note))


def _torn(corpus: Corpus) -> set[str]:
    """The questions whose fact stands in several splits."""
    split = {question.id: question.split for question in corpus.questions}
    facts = group_by_fact([question for question in _located(corpus) if question.split != "unanswerable"])
    return {name for members in facts if len({split[name] for name in members}) > 1 for name in members}


def _remarks(corpus: Corpus) -> list[str]:
    remarks = []
    same = Counter((document.title, document.text) for document in corpus.documents)
    if repeated := sum(same.values()) - len(same):
        remarks.append(f"{repeated} documents repeat the title and text of another: routing cannot tell them apart")
    if unplaced := sum(bool(q.golden_answers) and not q.document_ids for q in corpus.questions):
        remarks.append(f"{unplaced} questions name no gold document: recall is not measured for them")
    return remarks
