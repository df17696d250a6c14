"""Checks without questions: whether documents can be told apart, and rebuilt, by their slots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from zrag_core.evaluation.metrics.rouge import rouge_l
from zrag_core.model.architecture.encoder import UNUSED
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.checks.catalog import judged, threshold_of
from zrag_core.model.checks.check_spec import MemoryCheck
from zrag_core.model.checks.document_likelihood import opening
from zrag_core.model.checks.probe import Probe
from zrag_core.model.inference.decoder import reconstruct

_BY_CHANCE = 4  # documents that a memory without slots takes for themselves; more in one of 300


def document_top1(probe: Probe) -> list[MemoryCheck]:
    """Share of documents that their own slots explain better than any other's; a tie does not count."""
    return _top1("document_top1", probe.nll)


def projection_random_top1(probe: Probe) -> list[MemoryCheck]:
    """`document_top1` with the projection of slots replaced by random weights of the same scale.

    One document is right by chance and more than a few rarely are, whatever their number; of so few alone nothing can
    be said.
    """
    name, documents = "projection_random_top1", len(probe.sample)
    threshold = threshold_of(name)
    if documents <= _BY_CHANCE or threshold is None:
        return []
    with _random_projection(probe.model):
        nll = probe.confusion()
    allowed = max(0.0, _BY_CHANCE / documents - threshold.value)
    return _top1(name, nll, allowed)


def reconstruction_rouge_l(probe: Probe) -> list[MemoryCheck]:
    """ROUGE-L of sampled documents, decoded greedily from their slots alone."""
    model, scores = probe.model, []
    for row in probe.sample:
        sentences = opening(model, probe.documents[row].text)
        z, spans = (own[0] for own in model.document_slots([row]))
        spans = spans.masked_fill(spans >= len(sentences), UNUSED)
        rebuilt = reconstruct(model, z, spans, 1 + max(map(len, sentences), default=0))
        scores.append(rouge_l(rebuilt, " ".join(map(model.backbone.decode, sentences))))
    return [judged("reconstruction_rouge_l", float(np.mean(scores)))] if scores else []


def _top1(name: str, nll: np.ndarray, reference: float = 0.0) -> list[MemoryCheck]:
    if len(nll) < 2:  # a single document cannot be taken for another
        return []
    others = np.where(np.eye(len(nll), dtype=bool), np.inf, nll).min(axis=1)
    return [judged(name, float((nll.diagonal() < others).mean()), reference)]


@contextmanager
def _random_projection(model: MemoryModel) -> Iterator[None]:
    weights = model.reading_weights
    before = [weight.detach().clone() for weight in weights]
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for weight, own in zip(weights, before, strict=True):
                weight.copy_(torch.randn(weight.shape, generator=generator).to(weight) * own.std())
        yield
    finally:
        with torch.no_grad():
            for weight, own in zip(weights, before, strict=True):
                weight.copy_(own)
