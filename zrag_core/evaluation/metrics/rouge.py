"""ROUGE-L F-measure (Lin 2004), for every script.

`rouge-score`'s tokeniser keeps `[a-z0-9]+` alone and gives 0 for Korean. Here tokens are Unicode
words, split at underscores, so that the two agree on all ASCII text (without stemming); they differ
where `rouge-score` would drop or break a word at a letter such as the é of "café". Korean words stay
whole with their particles: evidence is compared with text of the same corpus, where they recur, and
syllables or bigrams would reward chance overlap.
"""

from __future__ import annotations

from functools import lru_cache

from rapidfuzz.distance import LCSseq

from zrag_core.evaluation.metrics.metric import Metric, Outcome
from zrag_core.text import words


@lru_cache(maxsize=4096)
def rouge_tokens(text: str) -> tuple[str, ...]:
    """Casefolded Unicode words of `text`, split at underscores."""
    return tuple(part for word in words(text) for part in word.split("_") if part)


def rouge_l(prediction: str, reference: str) -> float:
    """F-measure in [0, 1] of the longest common subsequence of words; 0.0 where either has none."""
    predicted, wanted = rouge_tokens(prediction), rouge_tokens(reference)
    common = LCSseq.similarity(predicted, wanted)
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _score(outcome: Outcome) -> float | None:
    return None if outcome.target is None else rouge_l(outcome.evidence, outcome.target)


METRICS = (Metric("rouge_l", "ROUGE-L", "evidence", _score, by_type=False),)
