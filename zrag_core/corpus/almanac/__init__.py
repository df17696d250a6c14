"""The built-in corpus: a generator of fictional encyclopedic documents with questions.

`generate_almanac` makes a corpus to evaluate on; `skill_batch` makes fresh documents for a training
loop. The two draw names, values and phrasings from disjoint pools, so nothing that a model learned
from the second is known of the first.
"""

from zrag_core.corpus.almanac.documents import (
    GeneratedDocument,
    corpus_name,
    skill_batch,
    two_hop_questions,
    vague_questions,
)
from zrag_core.corpus.almanac.lexicon import Phrasing
from zrag_core.corpus.almanac.questions import generate_almanac

__all__ = [
    "GeneratedDocument",
    "Phrasing",
    "corpus_name",
    "generate_almanac",
    "skill_batch",
    "two_hop_questions",
    "vague_questions",
]
