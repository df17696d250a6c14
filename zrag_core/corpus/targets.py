"""Evidence targets: for each query, the text that the model should write."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from zrag_core.corpus.offsets import answer_sentence, find_text
from zrag_core.corpus.self_study import held_out_sentences, is_synthetic, self_study_queries
from zrag_core.corpus.types import Corpus, Document, EvidenceTarget, Question
from zrag_core.settings import TargetSettings
from zrag_core.text import search_terms


def build_targets(corpus: Corpus, settings: TargetSettings, seed: int) -> list[EvidenceTarget]:
    """Make the targets of a corpus: one for each question whose evidence is known, then self-study queries.

    A question's target is its gold evidence ("gold"; supporting facts were made evidence when the corpus was read),
    else the first sentence that holds an answer ("answer_sentence"): in its gold documents, or, where these are
    unknown, in the only document that holds it. A question without either gets none; `audit_targets` counts these.
    Targets carry the split of their question, and only those of "train" may be trained on. Self-study queries
    ("self_study") of a document depend on the seed and that document alone; they are "train", save the held-out
    ones that evaluate a corpus without questions.
    """
    finder = EvidenceFinder(corpus.documents, corpus.questions)
    targets: list[EvidenceTarget] = []
    for question in corpus.questions:
        found = finder.find(question) if question.split != "unanswerable" else None
        if found is not None:
            method = "self_study" if is_synthetic(question) else found.method
            targets.append(
                EvidenceTarget(
                    question.id, question.question, found.document_ids, found.evidence, method, question.split
                )
            )
    held = held_out_sentences(corpus.questions)
    for document in corpus.documents:
        rng = random.Random(f"{seed}:{document.id}")
        skip = held.get(document.id, ())
        targets += self_study_queries(document, settings.self_study_per_sentence, rng, skip=skip)
    return targets


class FoundEvidence(NamedTuple):
    """Evidence of a question, the documents that hold it, and how it was found: "gold" or "answer_sentence"."""

    evidence: str
    document_ids: tuple[str, ...]
    method: str


class EvidenceFinder:
    """Finds a question's evidence: the corpus' own where it has some, else the sentence that holds the answer.

    Args:
        documents: the corpus.
        questions: the questions that will be asked for (they decide what is indexed).
    """

    def __init__(self, documents: Sequence[Document], questions: Iterable[Question]):
        self._documents = documents
        self._by_id = {document.id: document for document in documents}
        # Only the search terms of answers and evidence without a place are indexed: memory stays small.
        unplaced = [question for question in questions if not question.document_ids]
        wanted = [text for question in unplaced for text in (*question.golden_answers, question.evidence or "")]
        self._postings: dict[str, set[int]] = {term: set() for text in wanted for term in search_terms(text)}
        for position, document in enumerate(documents):
            for term in self._postings.keys() & search_terms(document.text):
                self._postings[term].add(position)

    def find(self, question: Question) -> FoundEvidence | None:
        """Return a question's evidence, or None.

        Where gold documents are not known the whole corpus is searched, and what is found counts only if a single
        document holds it.
        """
        if question.evidence is not None:
            holders = question.document_ids or self._holding_evidence(question.evidence)
            return FoundEvidence(question.evidence, holders, "gold")
        found: dict[str, str] = {}
        for answers, documents in self._places(question):
            for document in documents:
                sentence = answer_sentence(document.text, answers, question.language)
                if sentence is not None:
                    found.setdefault(document.id, sentence)
        if not found or (len(found) > 1 and not question.document_ids):
            return None
        document_id, sentence = next(iter(found.items()))
        return FoundEvidence(sentence, (document_id,), "answer_sentence")

    def _places(self, question: Question) -> Iterator[tuple[Sequence[str], list[Document]]]:
        """Where to look for which answers: in the gold documents, or for each answer where its terms stand."""
        if question.document_ids:
            yield question.golden_answers, [self._by_id[document_id] for document_id in question.document_ids]
        else:
            for answer in question.golden_answers:
                yield [answer], self._candidates(answer)

    def _holding_evidence(self, evidence: str) -> tuple[str, ...]:
        candidates = self._candidates(evidence)
        holders = tuple(document.id for document in candidates if find_text(document.text, evidence) is not None)
        return holders if len(holders) == 1 else ()

    def _candidates(self, text: str) -> list[Document]:
        """The documents that hold every search term of `text`, in order."""
        postings = [self._postings.get(term, set()) for term in set(search_terms(text))]
        return [self._documents[position] for position in sorted(set.intersection(*postings))] if postings else []
