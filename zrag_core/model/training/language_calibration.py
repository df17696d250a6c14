"""Fitting what routes, ranks and judges in a pretrained LLM's memory: on prose of the skill source, never on a corpus.

A fifth of the documents is left out of the memory; questions about them are the ones without an answer. Their
neighbours, other parts of the same longer text, stay, so most of these questions are near misses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from zrag_core.corpus.prose.asked import AskedSentence
from zrag_core.corpus.samples import hash_unit
from zrag_core.corpus.types import Document
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.architecture.sentence_features import (
    FIRST_CHOICE,
    OWN_WORDS,
    RANKING,
    SENTENCE_FEATURES,
    VERBATIM,
    LabelledCandidates,
    fit_confidence,
    fit_ranking,
    language_question_features,
    unseen_features,
)
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.inference.language_system import LanguageSystem
from zrag_core.model.inference.memory_system import MemorySystem
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.model.training.calibration import Calibration, fit_router, measure, remember_documents
from zrag_core.settings import Settings

_OUTSIDE = 0.2  # of the documents are asked about and not in memory
_MEASURED = 0.25  # of the questions are kept for measuring
_BATCH = 32


def calibrate_language(
    model: LanguageMemory,
    documents: Sequence[Document],
    asked: Sequence[AskedSentence],
    settings: Settings,
    *,
    log: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Fit the weights of `model` in place; its memory is replaced by these documents, which the caller drops."""
    inside, fitted, measured = fit_routing_on(model, documents, asked, settings, log)
    known = {document.id for document in inside}
    memory = Checkpoint("", Path(), model, tuple(inside), settings, {})
    system = LanguageSystem("calibration", memory, settings.decoding, threads=settings.backbone.cpu_threads)
    labelled = list(label_asked(system, fitted, known))
    right = [item for item in labelled if item.right.numel()]
    for form in (VERBATIM, OWN_WORDS):
        for stage in (FIRST_CHOICE, RANKING):
            hidden = unseen_features(form, stage)
            weights = fit_ranking([_hide(item, hidden) for item in right], model.plain_ranking()[form, stage])
            weights[hidden] = 0.0
            model.ranking[form, stage] = weights
        log(f"{'own words' if form == OWN_WORDS else 'verbatim'}: {weights_by_name(model.ranking[form, RANKING])}")
    own = _question_features(system, labelled)
    model.confidence.copy_(fit_confidence(own, torch.tensor([bool(item.right.numel()) for item in labelled])))
    others = list(label_asked(system, measured, known))
    return measure(others, system.ranking_weights(), _question_features(system, others), model.confidence.cpu())


def fit_routing_on(
    model: SeparatedMemory,
    documents: Sequence[Document],
    asked: Sequence[AskedSentence],
    settings: Settings,
    log: Callable[[str], None],
) -> tuple[list[Document], list[AskedSentence], list[AskedSentence]]:
    """Make most of the documents the memory and fit its routing in place.

    Returns:
        The documents in memory, the questions to fit on, and those to measure on.
    """
    inside = [d for d in documents if hash_unit(0, "outside", d.id) >= _OUTSIDE]
    remember_documents(model, inside, settings)
    fitted = [item for item in asked if hash_unit(0, "measured", item.question) >= _MEASURED]
    measured = [item for item in asked if hash_unit(0, "measured", item.question) < _MEASURED]
    log(f"{len(inside):,} documents in memory, {len(fitted):,} questions to fit on, {len(measured):,} to measure on")
    rows = {document.id: row for row, document in enumerate(inside)}
    # A near miss is about its document, though that does not answer it; what is about none is only what lies outside.
    gold = [rows.get(item.document_id, len(inside)) for item in fitted]
    fit_router(model, [item.question for item in fitted], gold, model.query_tokens)
    log(f"routing: scales {model.router.log_scale.exp().tolist()}, null {float(model.router.null_score):.2f}")
    return inside, fitted, measured


def label_asked(system: MemorySystem, asked: Sequence[AskedSentence], inside: set[str]) -> Iterator[LabelledCandidates]:
    """Candidates of each question, the right ones marked."""
    for start in range(0, len(asked), _BATCH):
        batch = asked[start : start + _BATCH]
        found = system.candidates([item.question for item in batch])
        for item, (segments, features, known) in zip(batch, found, strict=True):
            gold = (item.document_id, item.sentence)
            right = torch.tensor([(s.document_id, s.text) == gold for s in segments], dtype=torch.bool)
            answerable = bool(item.sentence) and item.document_id in inside
            yield LabelledCandidates(features, known, right if answerable else torch.zeros(0, dtype=torch.bool))


def weights_by_name(weights: torch.Tensor) -> str:
    """Weights of the sentence features for people to read."""
    return ", ".join(f"{name} {value:.2f}" for name, value in zip(SENTENCE_FEATURES, weights.tolist(), strict=True))


def _hide(item: LabelledCandidates, columns: Sequence[int]) -> LabelledCandidates:
    features = item.features.clone()
    features[:, list(columns)] = 0.0
    return LabelledCandidates(features, item.known, item.right)


def _question_features(system: LanguageSystem, items: Sequence[LabelledCandidates]) -> torch.Tensor:
    weights = system.ranking_weights()
    return torch.stack([language_question_features(i.known, i.features, i.features @ weights) for i in items])
