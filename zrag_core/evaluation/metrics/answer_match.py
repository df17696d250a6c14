"""Exact match and F1 of an answer against the golden answers.

English follows the official SQuAD 2.0 script (Rajpurkar et al. 2018, arXiv 1806.03822), Korean the
official KorQuAD 1.0 script (Lim et al. 2019, arXiv 1909.07005), whose F1 counts characters because
a Korean word carries its particles.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from zrag_core.answering.prompts import is_refusal as is_prompted_refusal
from zrag_core.evaluation.metrics.metric import Metric, Outcome

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Quotation marks and brackets that the KorQuAD script turns into spaces before it drops punctuation.
_KOREAN_MARKS = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
# Ways to say that there is no answer beside the one that the prompts ask for. Longer answers may
# hold such words in passing.
_REFUSAL_WORDS = 20
_REFUSAL = re.compile(
    r"^\W*(none|unknown|n/a)\W*$|unanswerable|\bno answer\b"
    r"|\b(no|not enough|not sufficient|insufficient) (information|evidence)\b"
    r"|\b(do|does|did)(n't| not) (know|say|state|mention|contain|provide|specify|answer)\b"
    r"|\b(cannot|can't|can not|could not|couldn't) (be )?(answer|determine|find|found|say|tell|know)"
    r"|\bnot (answerable|known|stated|mentioned|specified|provided|in the (text|context|documents))\b"
    r"|답(변)?(할|을|이|은)? ?(할 )?수 ?없|알 ?수 ?없|모르겠|모릅니다|(정보|내용|언급|근거|답)(가|이|는|은)? ?없"
)


def normalize_english(text: str) -> str:
    """SQuAD's normal form: lower case, no ASCII punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def normalize_korean(text: str) -> str:
    """KorQuAD's normal form: quotation marks and brackets become spaces, ASCII punctuation goes."""
    composed = unicodedata.normalize("NFC", text)
    return " ".join(composed.translate(_KOREAN_MARKS).lower().translate(_PUNCTUATION).split())


def is_refusal(answer: str) -> bool:
    """Whether an answer is empty or says, in English or Korean, that there is none."""
    text = unicodedata.normalize("NFKC", answer).replace("’", "'").lower()
    if not normalize_english(text):
        return True
    return is_prompted_refusal(answer) or (len(text.split()) <= _REFUSAL_WORDS and _REFUSAL.search(text) is not None)


def score_answer(prediction: str, golds: Sequence[str], language: str) -> tuple[float, float]:
    """Exact match and F1, each the best over the golden answers.

    A question without golden answers is answered rightly by refusing (SQuAD 2.0). Golden answers that are empty
    after normalisation do not count beside others, and where prediction and golden answer both are, both measures
    are 1.0, as in SQuAD 2.0.

    Args:
        prediction: the reader's answer.
        golds: accepted answers; empty for an unanswerable question.
        language: "ko" for KorQuAD's measures, anything else for SQuAD's.

    Returns:
        (exact match, F1), each in [0, 1].
    """
    if not golds:
        refused = float(is_refusal(prediction))
        return refused, refused
    korean = language == "ko"
    normalize = normalize_korean if korean else normalize_english
    predicted = normalize(prediction)
    best_match = best_f1 = 0.0
    for wanted in [text for text in map(normalize, golds) if text] or [""]:
        best_match = max(best_match, float(predicted == wanted))
        units = [text.replace(" ", "") if korean else text.split() for text in (predicted, wanted)]
        best_f1 = max(best_f1, _f1(*units))
    return best_match, best_f1


def _f1(predicted: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of two bags of tokens or characters."""
    if not predicted or not wanted:
        return float(predicted == wanted)
    common = (Counter(predicted) & Counter(wanted)).total()
    return 2 * common / (len(predicted) + len(wanted))


def _match(which: Literal[0, 1]) -> Callable[[Outcome], float | None]:
    def score(outcome: Outcome) -> float | None:
        if outcome.answer is None:
            return None
        return score_answer(outcome.answer, outcome.question.golden_answers, outcome.question.language)[which]

    return score


METRICS = (
    Metric("em", "EM", "answer", _match(0), compared="yes"),
    Metric("f1", "F1", "answer", _match(1), compared="main"),
)
