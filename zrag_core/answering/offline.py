"""The offline reader: picks an answer span from the evidence without any language model.

It stands in where no answering model is configured, so that the whole pipeline runs without key,
network or cost. Its answers are far below a language model's; every row is labelled `offline`.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence

from zrag_core.answering import answer_spans_en as spans_en
from zrag_core.answering import answer_spans_ko as spans_ko
from zrag_core.answering.prompts import REFUSALS, prompt_hash
from zrag_core.answering.types import Answer, AnswerRequest, CostEstimate, Progress
from zrag_core.sentences import split_sentences
from zrag_core.text import has_hangul

# How many of the best sentences are searched for a span, and what a sentence's share of the
# question's words counts against the score of a span.
_SENTENCES = 3
_SENTENCE_WEIGHT = 16.0
_YES_NO = frozenset("is are was were do does did has have had can could will would should may might".split())
_NEGATIONS = frozenset("no not never none neither nor cannot".split())


class OfflineReader:
    """Deterministic extractive reader for English and Korean."""

    name = "offline"
    model = "extractive-v1"

    def answer(self, requests: Sequence[AnswerRequest], progress: Progress | None = None) -> list[Answer]:
        """Return one `Answer` for each request, in order; free of charge, never an error."""
        answers: list[Answer] = []
        for request in requests:
            began = time.perf_counter()
            text = extract_answer(request.question, request.evidence, request.language)
            content = [{"role": "user", "content": f"{request.question}\n{request.evidence}"}]
            answers.append(
                Answer(
                    question_id=request.question_id,
                    system=request.system,
                    reader=self.name,
                    model=self.model,
                    answer=text,
                    prompt_tokens=0,
                    completion_tokens=0,
                    cost_usd=0.0,
                    latency_ms=1000.0 * (time.perf_counter() - began),
                    cached=False,
                    prompt_hash=prompt_hash(self.model, 0.0, 0, content),
                )
            )
            if progress:
                progress(len(answers), len(requests), 0.0)
        return answers

    def estimate(self, requests: Sequence[AnswerRequest]) -> CostEstimate:
        """Return an estimate of nothing."""
        return CostEstimate(self.model, len(requests), 0, 0, 0, 0.0, "offline: nothing is sent")


def extract_answer(question: str, evidence: str, language: str) -> str:
    """Return a short span of `evidence`, or the refusal where there is none.

    An English yes/no question gets "yes" or "no", by whether the best sentence negates.
    """
    sentences = [sentence.text for sentence in split_sentences(evidence)]
    if not sentences:
        return REFUSALS[language]
    if language == "en" and _asks_yes_or_no(question):
        best = rank_sentences(question, sentences, language)[0][1]
        return "no" if _NEGATIONS & set(best.casefold().replace("n't", " not").split()) else "yes"
    spans = spans_ko if language == "ko" or has_hangul(question) else spans_en
    form = spans.parse_question(question)
    found: list[tuple[float, str]] = []
    for share, sentence in rank_sentences(question, sentences, language)[:_SENTENCES]:
        found.extend((score + _SENTENCE_WEIGHT * share, span) for score, span in spans.candidates(form, sentence))
    if not found:
        return sentences[0]
    # The first of equals, so that the answer depends on nothing but the text.
    return max(found, key=lambda pair: pair[0])[1]


def rank_sentences(question: str, sentences: Sequence[str], language: str) -> list[tuple[float, str]]:
    """Return (share, sentence), best first: the idf-weighted share of the question's words that it holds.

    Words are rare or common within these sentences; equals keep their order.
    """
    stems = spans_ko.content_stems if language == "ko" or has_hangul(question) else spans_en.content_stems
    asked = set(stems(question))
    bags = [set(stems(sentence)) for sentence in sentences]
    counts = Counter(word for bag in bags for word in bag)
    weights = {word: math.log(1.0 + len(sentences) / (1 + counts[word])) for word in asked}
    total = math.fsum(weights.values()) or 1.0
    # Sums that do not depend on the order of a set, which changes from process to process.
    shares = [math.fsum(weights[word] for word in asked & bag) / total for bag in bags]
    return sorted(zip(shares, sentences, strict=True), key=lambda pair: -pair[0])


def _asks_yes_or_no(question: str) -> bool:
    """Whether an English question opens with a verb and offers no choice; "Do you know who..." asks who."""
    asked = question.casefold().replace("?", " ").split()
    return asked[:1] != [] and asked[0] in _YES_NO and not spans_en.QUESTION_WORDS & set(asked) and "or" not in asked
