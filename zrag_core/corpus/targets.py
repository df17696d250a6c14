"""Evidence targets: for each query, the text that the model should write."""

from __future__ import annotations

import random

from zrag_core.corpus.offsets import EvidenceFinder
from zrag_core.corpus.self_study import held_out_sentences, is_synthetic, self_study_queries
from zrag_core.corpus.types import Corpus, EvidenceTarget
from zrag_core.settings import TargetSettings


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
            evidence, document_ids, method = found
            method = "self_study" if is_synthetic(question) else method
            targets.append(
                EvidenceTarget(question.id, question.question, document_ids, evidence, method, question.split)
            )
    held = held_out_sentences(corpus.questions)
    for document in corpus.documents:
        rng = random.Random(f"{seed}:{document.id}")
        skip = held.get(document.id, frozenset())
        targets += self_study_queries(document, settings.self_study_per_sentence, rng, skip=skip)
    return targets
