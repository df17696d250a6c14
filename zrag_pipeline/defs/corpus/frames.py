"""A corpus as tables, for previews and counts."""

from __future__ import annotations

import pandas as pd

from zrag_core.corpus.types import Corpus
from zrag_core.text import evidence_tokens


def corpus_frames(corpus: Corpus) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The documents, and the questions without gold documents and evidence."""
    documents = pd.DataFrame(
        [(d.id, d.title, d.text, evidence_tokens(d.text)) for d in corpus.documents],
        columns=["document_id", "title", "text", "n_tokens"],
    )
    questions = pd.DataFrame(
        [(q.id, q.question, q.golden_answers, q.split, q.question_type, q.language) for q in corpus.questions],
        columns=["question_id", "question", "golden_answers", "split", "question_type", "language"],
    )
    return documents, questions
