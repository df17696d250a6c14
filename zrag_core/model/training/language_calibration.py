"""Fitting what routes, ranks and judges in a pretrained LLM's memory: on prose of the skill source, never on a corpus.

A fifth of the documents is left out of the memory; questions about them are the ones without an answer. Their
neighbours, other parts of the same longer text, stay, so most of these questions are near misses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from zrag_core.corpus.samples import hash_unit
from zrag_core.corpus.types import Document
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.architecture.sentence_features import (
    SENTENCE_FEATURES,
    LabelledCandidates,
    confidence,
    fit_confidence,
    fit_ranking,
    fit_routing,
    language_question_features,
    language_weights,
)
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.inference.language_system import FIRST_CHOICE, OWN_WORDS, RANKING, VERBATIM, LanguageSystem
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.model.store.write import encode_documents
from zrag_core.model.training.calibration import Calibration, auroc
from zrag_core.settings import Settings

_OUTSIDE = 0.2  # of the documents are asked about and not in memory
_MEASURED = 0.25  # of the questions are kept for measuring
_BATCH = 32
_READ_ONLY = tuple(SENTENCE_FEATURES.index(name) for name in ("likelihood", "prior"))
_WORDS = SENTENCE_FEATURES.index("words")


@dataclass(frozen=True, slots=True)
class AskedSentence:
    """A question that a sentence of a document answers."""

    question: str
    document_id: str
    sentence: str


def calibrate_language(
    model: LanguageMemory,
    documents: Sequence[Document],
    asked: Sequence[AskedSentence],
    settings: Settings,
    *,
    log: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Fit the weights of `model` in place; its memory is replaced by these documents, which the caller drops."""
    inside = [d for d in documents if hash_unit(0, "outside", d.id) >= _OUTSIDE]
    known = {document.id for document in inside}
    sentences = [sentence_ids(model.backbone, document.text) for document in inside]
    z, spans, _ = encode_documents(model, sentences, settings.writing)
    model.remember(inside, z, spans)
    fitted = [item for item in asked if hash_unit(0, "measured", item.question) >= _MEASURED]
    measured = [item for item in asked if hash_unit(0, "measured", item.question) < _MEASURED]
    log(f"{len(inside):,} documents in memory, {len(fitted):,} questions to fit on, {len(measured):,} to measure on")
    _fit_routing(model, inside, fitted)
    log(f"routing: scales {model.router.log_scale.exp().tolist()}, null {float(model.router.null_score):.2f}")
    memory = Checkpoint("", Path(), model, tuple(inside), settings, {})
    system = LanguageSystem("calibration", memory, settings.decoding, threads=settings.backbone.threads)
    labelled = list(_label(system, fitted, known))
    right = [item for item in labelled if item.right.numel()]
    for form in (VERBATIM, OWN_WORDS):
        for stage in (FIRST_CHOICE, RANKING):
            # What is not known at this stage, and what is no part of Z.
            hidden = [*(_READ_ONLY if stage == FIRST_CHOICE else ()), *([_WORDS] if form == OWN_WORDS else ())]
            start = language_weights()
            start[hidden] = 0.0
            weights = fit_ranking([_hide(item, hidden) for item in right], start)
            weights[hidden] = 0.0
            model.stages[form, stage] = weights
        log(f"{'own words' if form == OWN_WORDS else 'verbatim'}: {_named(model.stages[form, RANKING])}")
    own = torch.stack([_question_features(system, item) for item in labelled])
    model.confidence.copy_(fit_confidence(own, torch.tensor([bool(item.right.numel()) for item in labelled])))
    return _measure(model, system, list(_label(system, measured, known)))


@torch.no_grad()
def _fit_routing(model: LanguageMemory, inside: Sequence[Document], asked: Sequence[AskedSentence]) -> None:
    rows = {document.id: row for row, document in enumerate(inside)}
    texts = [item.question for item in asked]
    gold = torch.tensor([rows.get(item.document_id, len(inside)) for item in asked])
    queries = [model.backbone.encode(text, model.query_tokens) for text in texts]
    terms = [
        model.routing_terms(texts[start : start + _BATCH], queries[start : start + _BATCH]).float().cpu()
        for start in range(0, len(texts), _BATCH)
    ]
    router = model.router
    with torch.enable_grad():
        start = torch.cat([router.log_scale.detach().cpu(), router.null_score.detach().cpu()[None]])
        scales, null = fit_routing(torch.cat(terms, 1), gold, start)
    router.log_scale.copy_(scales)
    router.null_score.copy_(null)


def _label(system: LanguageSystem, asked: Sequence[AskedSentence], inside: set[str]) -> Iterator[LabelledCandidates]:
    """Candidates of each question, the right ones marked."""
    for start in range(0, len(asked), _BATCH):
        batch = asked[start : start + _BATCH]
        found = system.candidates([item.question for item in batch])
        for item, (segments, features, known) in zip(batch, found, strict=True):
            gold = (item.document_id, item.sentence)
            right = torch.tensor([(s.document_id, s.text) == gold for s in segments], dtype=torch.bool)
            answerable = item.document_id in inside
            yield LabelledCandidates(features, known, right if answerable else torch.zeros(0, dtype=torch.bool))


def _named(weights: torch.Tensor) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in zip(SENTENCE_FEATURES, weights.tolist(), strict=True))


def _hide(item: LabelledCandidates, columns: Sequence[int]) -> LabelledCandidates:
    features = item.features.clone()
    features[:, list(columns)] = 0.0
    return LabelledCandidates(features, item.known, item.right)


def _question_features(system: LanguageSystem, item: LabelledCandidates) -> torch.Tensor:
    return language_question_features(item.known, item.features, item.features @ system.ranking_weights())


def _measure(model: LanguageMemory, system: LanguageSystem, items: Sequence[LabelledCandidates]) -> Calibration:
    weights = model.confidence.cpu()
    sure: dict[bool, list[float]] = {True: [], False: []}
    first, routed = [], []
    for item in items:
        sure[bool(item.right.numel())].append(float(confidence(_question_features(system, item), weights)))
        if item.right.numel():
            scores = item.features @ system.ranking_weights()
            first.append(bool(item.right[int(scores.argmax())]))
            route = item.features[:, SENTENCE_FEATURES.index("route")]
            routed.append(bool(item.right[route == route.max()].any()))
    return Calibration(sum(first) / len(first), sum(routed) / len(routed), auroc(sure[True], sure[False]), len(first))
