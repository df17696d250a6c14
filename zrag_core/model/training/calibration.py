"""Fitting what ranks and judges: scales of the router, weights of sentence features, the confidence.

All are fitted on memories of fresh documents of the skill source, asked in words that training never drew, so they
belong to the skill and know nothing of the corpus.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.sentence_features import (
    SENTENCE_FEATURES,
    LabelledCandidates,
    confidence,
    fit_confidence,
    fit_ranking,
    fit_routing,
    question_features,
)
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.inference.separated_system import SeparatedSystem
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.model.store.write import encode_documents
from zrag_core.model.training.skill_data import SkillDocument, SkillSource
from zrag_core.settings import Settings

_DOCUMENTS, _OUTSIDE, _QUESTIONS = 64, 16, 4
_ROUTED_DOCUMENTS, _BATCH = 400, 64


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well the fitted weights do on another memory than the one they were fitted on.

    Attributes:
        sentence_top1: share of answerable questions whose best sentence is the right one.
        recall_at_1: share of them whose best document is the right one.
        auroc: of the confidence, answerable against unanswerable questions.
        questions: how many were answerable.
    """

    sentence_top1: float
    recall_at_1: float
    auroc: float
    questions: int


def calibrate(model: SeparatedMemory, source: SkillSource, settings: Settings, *, memories: int = 4) -> Calibration:
    """Fit the weights of `model` in place; its memory is replaced by skill documents, which the caller drops.

    Args:
        memories: memories of 64 documents to fit on; on one more they are measured.
    """
    _calibrate_routing(model, source, settings)
    candidates: list[LabelledCandidates] = []
    for number in range(memories):
        rng = random.Random(f"{settings.skill.seed}:calibration:{number}")
        candidates.extend(_label(model, source, settings, rng))
    model.ranking.copy_(fit_ranking([item for item in candidates if item.right.numel()]))
    own = torch.stack([_own_features(model, item) for item in candidates])
    answerable = torch.tensor([bool(item.right.numel()) for item in candidates])
    model.confidence.copy_(fit_confidence(own, answerable))
    rng = random.Random(f"{settings.skill.seed}:calibration:last")
    measured = list(_label(model, source, settings, rng))
    own = torch.stack([_own_features(model, item) for item in measured])
    return measure(measured, model.ranking.cpu(), own, model.confidence.cpu())


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Probability that a positive scores above a negative (Mann-Whitney); ties count half."""
    wins = torch.tensor(positive)[:, None] - torch.tensor(negative)[None]
    return float(((wins > 0).float() + 0.5 * (wins == 0).float()).mean())


def _label(
    model: SeparatedMemory, source: SkillSource, settings: Settings, rng: random.Random
) -> Iterator[LabelledCandidates]:
    """Candidates of questions about one fresh memory, the right ones marked."""
    drawn = source.draw(rng, _DOCUMENTS + _OUTSIDE, _QUESTIONS, held_out=True)
    rng.shuffle(drawn)
    inside, outside = drawn[:_DOCUMENTS], drawn[_DOCUMENTS:]
    documents = tuple(item.document for item in inside)
    remember_documents(model, documents, settings)
    system = SeparatedSystem("calibration", Checkpoint("", Path(), model, documents, settings, {}), settings.decoding)
    # Each question with the document and sentence that answer it; None where nothing does.
    asked: list[tuple[str, tuple[str, str] | None]] = []
    for item in inside:
        asked += [(question, (item.document.id, evidence)) for question, evidence in _distinct(item)]
        asked += [(hop.question, (hop.target, hop.evidence)) for hop in item.two_hop]
        asked += [(question, None) for question in item.unanswerable[:1]]
    asked += [(question, None) for item in outside for question, _ in _distinct(item)[:2]]
    for start in range(0, len(asked), _BATCH):
        batch = asked[start : start + _BATCH]
        found = system.candidates([question for question, _ in batch])
        for (_, gold), (segments, features, known) in zip(batch, found, strict=True):
            right = torch.tensor([(s.document_id, s.text) == gold for s in segments], dtype=torch.bool)
            yield LabelledCandidates(features, known, right if gold else torch.zeros(0, dtype=torch.bool))


def _distinct(item: SkillDocument) -> list[tuple[str, str]]:
    return list(dict.fromkeys(item.asked))


@torch.no_grad()
def _calibrate_routing(model: SeparatedMemory, source: SkillSource, settings: Settings) -> None:
    """Weigh title, text and slots against each other in a larger memory than one step of training has."""
    rng = random.Random(f"{settings.skill.seed}:calibration:routing")
    drawn = source.draw(rng, _ROUTED_DOCUMENTS, _QUESTIONS, held_out=True)
    rng.shuffle(drawn)
    inside, outside = drawn[len(drawn) // 8 :], drawn[: len(drawn) // 8]
    remember_documents(model, [item.document for item in inside], settings)
    asked = [(question, row) for row, item in enumerate(inside) for question, _ in _distinct(item)]
    asked += [(question, len(inside)) for item in outside for question, _ in _distinct(item)[:2]]
    if not asked:
        return
    texts, rows = zip(*asked, strict=True)
    fit_router(model, texts, rows, settings.skill.query_tokens)


@torch.no_grad()
def fit_router(model: SeparatedMemory, texts: Sequence[str], rows: Sequence[int], query_tokens: int) -> None:
    """Fit the scales of the router's terms and the null document's score, in place.

    Args:
        texts: questions about the memory.
        rows: their documents; as many as there are documents where it is none of them.
        query_tokens: longer questions are cut.
    """
    queries = [model.backbone.encode(text, query_tokens) for text in texts]
    terms = [
        model.routing_terms(texts[start : start + _BATCH], queries[start : start + _BATCH]).float().cpu()
        for start in range(0, len(texts), _BATCH)
    ]
    router = model.router
    with torch.enable_grad():
        start = torch.cat([router.log_scale.detach().cpu(), router.null_score.detach().cpu()[None]])
        scales, null = fit_routing(torch.cat(terms, 1), torch.tensor(rows), start)
    router.log_scale.copy_(scales)
    router.null_score.copy_(null)


def remember_documents(model: SeparatedMemory, documents: Sequence[Document], settings: Settings) -> None:
    """Make documents the memory, by the encoder alone."""
    sentences = [sentence_ids(model.backbone, document.text) for document in documents]
    z, spans, _ = encode_documents(model, sentences, settings.writing)
    model.remember(documents, z, spans)


def _own_features(model: SeparatedMemory, item: LabelledCandidates) -> torch.Tensor:
    return question_features(item.known, item.features, item.features @ model.ranking.cpu())


def measure(
    candidates: Sequence[LabelledCandidates], ranking: torch.Tensor, features: torch.Tensor, judge: torch.Tensor
) -> Calibration:
    """How well weights do on labelled questions.

    Args:
        ranking: [F] weights of the sentence features.
        features: [Q, G] of the questions.
        judge: [G + 1] weights of the confidence.
    """
    sure: dict[bool, list[float]] = {True: [], False: []}
    first, routed = [], []
    for item, probability in zip(candidates, confidence(features, judge).tolist(), strict=True):
        sure[bool(item.right.numel())].append(probability)
        if item.right.numel():
            first.append(bool(item.right[int((item.features @ ranking).argmax())]))
            route = item.features[:, SENTENCE_FEATURES.index("route")]
            routed.append(bool(item.right[route == route.max()].any()))
    return Calibration(sum(first) / len(first), sum(routed) / len(routed), auroc(sure[True], sure[False]), len(first))
