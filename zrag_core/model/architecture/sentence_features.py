"""Features of candidate sentences and of questions, and the weights that rank and judge by them.

The weights are part of the skill: they are fitted on documents of the skill source, never on the corpus.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from zrag_core.bm25_weights import term_weight


class SentenceFeatures(NamedTuple):
    """Features of a candidate sentence; a policy leaves those at 0 that it does not measure.

    Attributes:
        route: log P(document | query), over both steps where there are two.
        second: 1 if the second step led there.
        answers: log of the probability that the document says what is asked; of a pretrained LLM, which is asked after
            it has read the best sentences: that one of them does.
        find: log P(span | query, document).
        likelihood: mean log-likelihood per token given query and slots. Where a sentence has slots of its own it says
            how well it was written, not whether it answers: the weight fitted to it was
            -0.01 (docs/experiments.md, 13). A pretrained LLM is asked the other way round: log P(query | slots), in
            tens of nats.
        prior: the same given the document's title alone; of a pretrained LLM: log P(query) without any slots.
        words: BM25's overlap of query and sentence, in tens.
        title: how rare the query's words are that stand in the document's title and not in the sentence, in tens.
        length: log of the sentence's number of words; a short line rarely answers.
        relevance: log-odds that the sentence answers, of a pretrained LLM's hidden states.
    """

    route: float
    second: float = 0.0
    answers: float = 0.0
    find: float = 0.0
    likelihood: float = 0.0
    prior: float = 0.0
    words: float = 0.0
    title: float = 0.0
    length: float = 0.0
    relevance: float = 0.0


class QuestionFeatures(NamedTuple):
    """Features of a question: log P(not the null document), those of the best sentence, and its ranking score."""

    known: torch.Tensor
    route: torch.Tensor
    answers: torch.Tensor
    find: torch.Tensor
    score: torch.Tensor
    words: torch.Tensor


class LanguageQuestionFeatures(NamedTuple):
    """Features of a question to a pretrained LLM: those of the best sentence, its score, and how far it is ahead of
    the mean of the others."""

    known: torch.Tensor
    route: torch.Tensor
    answers: torch.Tensor
    find: torch.Tensor
    likelihood: torch.Tensor
    prior: torch.Tensor
    words: torch.Tensor
    score: torch.Tensor
    ahead: torch.Tensor
    relevance: torch.Tensor


SENTENCE_FEATURES = SentenceFeatures._fields
CONFIDENCE_FEATURES = QuestionFeatures._fields
LANGUAGE_FEATURES = LanguageQuestionFeatures._fields

_FLOOR = -20.0  # log probabilities below this tell nothing more
_L2 = 1e-3
_TYPICAL_SENTENCE = 25.0  # features; stands for BM25's average length, which would depend on the corpus
_LARGEST_LOG_SCALE = 5.0  # a line search may step to where exp() of a scale overflows


@dataclass(frozen=True, slots=True)
class LabelledCandidates:
    """Candidates of one question with their features [C, F], and which of them hold its answer.

    Attributes:
        known: log of the probability that the question is about something in memory.
        right: [C] bool; empty where the question has no answer in memory.
    """

    features: torch.Tensor
    known: torch.Tensor
    right: torch.Tensor


def plain_weights(prior_weight: float) -> torch.Tensor:
    """Weights [F] without fitting: log P(document | query) + l(sentence | query, slots) - w l(sentence | title)."""
    return torch.tensor(SentenceFeatures(route=1.0, find=1.0, likelihood=1.0, prior=-prior_weight))


VERBATIM, OWN_WORDS = 0, 1
FIRST_CHOICE, RANKING = 0, 1
"""What a pretrained LLM's weights are for: evidence as sentences or in its own words; which sentences it reads, and how
they are ranked after it has read them."""

_NOT_YET_READ = ("likelihood", "prior", "answers", "relevance")
_NO_PART_OF_Z = ("words", "title", "length")
_TOLD_BY_READING = ("words", "title")  # weighed beside what was read they came out negative: experiment 29


def language_weights() -> torch.Tensor:
    """Weights [2, 2, F] of a pretrained LLM without fitting, by form of the evidence and by stage."""
    weights = torch.tensor(SentenceFeatures(route=0.3, find=10.0, likelihood=10.0, words=2.0)).repeat(2, 2, 1)
    for form in (VERBATIM, OWN_WORDS):
        for stage in (FIRST_CHOICE, RANKING):
            weights[form, stage, unseen_features(form, stage)] = 0.0
    return weights


def unseen_features(form: int, stage: int) -> list[int]:
    """Numbers of the features that a pretrained LLM's weights leave out: what is not known yet, is known better, or is
    no part of Z."""
    stage_names = _NOT_YET_READ if stage == FIRST_CHOICE else _TOLD_BY_READING
    names = {*stage_names, *(_NO_PART_OF_Z if form == OWN_WORDS else ())}
    return [SENTENCE_FEATURES.index(name) for name in names]


def word_overlap(query: Sequence[int], sentence: Sequence[int], idf: np.ndarray) -> float:
    """Sum of idf over the query's features in the sentence, held against its length as BM25 does, in tens."""
    shared, length = set(query).intersection(sentence), len(sentence)
    weights = (term_weight(sentence.count(f), length, _TYPICAL_SENTENCE, float(idf[f])) for f in shared)
    return float(sum(weights)) / 10


def title_overlap(query: Sequence[int], title: frozenset[int], sentence: Sequence[int], idf: np.ndarray) -> float:
    """Sum of idf over the query's features that are in the title and not in the sentence, in tens."""
    return float(sum(idf[feature] for feature in title.intersection(query).difference(sentence))) / 10


def word_features(
    query: Sequence[int], title: frozenset[int], sentence: Sequence[int], idf: np.ndarray
) -> dict[str, float]:
    """Those features of a sentence, by name, that are about words alone."""
    return {
        "words": word_overlap(query, sentence, idf),
        "title": title_overlap(query, title, sentence, idf),
        "length": math.log1p(len(sentence)),
    }


def floor_log(value: torch.Tensor) -> torch.Tensor:
    """Log probabilities, cut where they tell nothing more."""
    return value.clamp(min=_FLOOR)


def question_features(known: torch.Tensor, features: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Features [G] of a question from those of its candidates [C, F] and their scores [C]."""
    best = int(scores.argmax())
    own = dict(zip(SENTENCE_FEATURES, features[best], strict=True))
    of_best = {name: own[name] for name in ("route", "answers", "find", "words")}
    return torch.stack(QuestionFeatures(known=known, score=scores[best], **of_best))


def language_question_features(known: torch.Tensor, features: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Features [G] of a question to a pretrained LLM from those of its candidates [C, F] and their scores [C]."""
    best = int(scores.argmax())
    own = dict(zip(SENTENCE_FEATURES, features[best], strict=True))
    of_best = {name: own[name] for name in LANGUAGE_FEATURES if name in own}
    ahead = scores[best] - scores.mean()
    return torch.stack(LanguageQuestionFeatures(known=known, score=scores[best], ahead=ahead, **of_best))


def fit_ranking(candidates: Sequence[LabelledCandidates], start: torch.Tensor | None = None) -> torch.Tensor:
    """Weights [F] that maximise the likelihood of the right sentences among all candidates (listwise softmax).

    Questions without a right candidate are left out.

    Raises:
        ValueError: no question has a right candidate.
    """
    usable = [item for item in candidates if item.right.any()]
    if not usable:
        raise ValueError("no question has its answer among the candidates; the skill has not learned to route")

    def loss(weights: torch.Tensor) -> torch.Tensor:
        losses = []
        for item in usable:
            log_p = torch.log_softmax(item.features @ weights, 0)
            losses.append(-torch.logsumexp(log_p[item.right], 0))
        return torch.stack(losses).mean()

    return _minimise(loss, plain_weights(1.0) if start is None else start)


def fit_routing(parts: torch.Tensor, gold: torch.Tensor, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log scales [3] of the router's terms and the null document's score that make gold documents most likely.

    Args:
        parts: [3, Q, N] terms of the routing scores.
        gold: [Q] rows; N where the question is about nothing in memory.
        start: [4] log scales and null score to start from.
    """

    def loss(values: torch.Tensor) -> torch.Tensor:
        scores = (values[:3].clamp(max=_LARGEST_LOG_SCALE).exp()[:, None, None] * parts).sum(0)
        return F.cross_entropy(torch.cat([scores, values[3].expand(len(gold), 1)], 1), gold)

    found = _minimise(loss, start)
    return found[:3].clamp(max=_LARGEST_LOG_SCALE), found[3]


def fit_confidence(features: torch.Tensor, answerable: torch.Tensor) -> torch.Tensor:
    """Weights [G + 1] (the last is the bias) of a logistic regression: P(answerable | features [Q, G])."""
    mean, std = features.mean(0), features.std(0).clamp(min=0.05)
    scaled = (features - mean) / std
    target = answerable.float()

    def loss(weights: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(scaled @ weights[:-1] + weights[-1], target)

    found = _minimise(loss, torch.zeros(features.shape[1] + 1))
    weights = found[:-1] / std
    return torch.cat([weights, (found[-1] - (weights * mean).sum())[None]])


def confidence(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """P(answerable) [Q] of features [Q, G] under weights [G + 1]."""
    return torch.sigmoid(features @ weights[:-1] + weights[-1])


def _minimise(loss: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor) -> torch.Tensor:
    weights = start.clone().requires_grad_(True)
    optimizer: Any = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(weights) + _L2 * weights.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    return weights.detach()
