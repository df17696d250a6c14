"""Memory checks: whether a checkpoint's knowledge is in Z, and what reading and routing are worth by themselves.

Every check asks held-out questions only, and works for both policies. The checks describe a model; what follows from
a failed one is left to the caller.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from zrag_core.corpus.types import Question
from zrag_core.evaluation.metrics.rouge import rouge_l
from zrag_core.model.architecture.encoder import UNUSED, sentences_per_span
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.checks.deletion_check import deleted_leak_coverage
from zrag_core.model.checks.probe import Probe, document_nll
from zrag_core.model.checks.thresholds import MemoryCheck, judged
from zrag_core.model.inference.decoder import reconstruct
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.model.store.write import encode_documents
from zrag_core.settings import WritingSettings

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
SHARES = (0.25, 0.5, 1.0)
_SAMPLED_DOCUMENTS = 48
_DOCUMENT_TOKENS = 256  # longer documents are judged by their beginning


@dataclass(frozen=True)
class MemoryReport:
    """All checks of a checkpoint.

    Attributes:
        checks: what could be measured; checks with questions are missing where none was held out.
        nll: [n, n] nats per token of sampled document i given z_j.
        n_questions: how many were asked.
    """

    checks: tuple[MemoryCheck, ...]
    nll: np.ndarray
    n_questions: int


def run_checks(
    checkpoint: Checkpoint,
    questions: Sequence[Question],
    *,
    limit: int = 128,
    batch_size: int = 32,
    on_check: Callable[[str], None] | None = None,
) -> MemoryReport:
    """Run every check that this checkpoint and these questions allow.

    Args:
        questions: of the checkpoint's corpus, with their splits; only held-out ones are asked.
        limit: most questions that are asked (a fixed sample).
        batch_size: questions routed and read at once.
        on_check: called with one line when a check is done.
    """
    probe = Probe(checkpoint, questions, limit=limit, batch_size=batch_size)
    done: list[MemoryCheck] = []

    def report(name: str, found: list[MemoryCheck], began: float) -> None:
        nonlocal finished
        finished += 1
        done.extend(found)
        if on_check:
            seconds = time.perf_counter() - began
            on_check(f"{finished} of {len(_CHECKS) + 1}  {_line(name, found)}  {seconds:.1f} s")

    finished = 0
    began = time.perf_counter()
    nll = confusion(probe)
    report("document_top1", document_top1(nll), began)
    for check in _CHECKS:
        began = time.perf_counter()
        report(check.__name__, check(probe), began)
    return MemoryReport(tuple(done), nll, len(probe.asked))


def confusion(probe: Probe) -> np.ndarray:
    """NLL [n, n] of a fixed sample of documents i, each written from each z_j of the sample."""
    rows = _sample(probe)
    documents = [_beginning(probe, row) for row in rows]
    return document_nll(probe.model, probe.model.z[rows], probe.model.spans[rows], documents).numpy()


def document_top1(nll: np.ndarray, name: str = "document_top1") -> list[MemoryCheck]:
    """Share of documents that their own slots explain better than any other's; a tie does not count.

    Args:
        nll: [n, n] as from `confusion`; nothing is found out from a single document.
    """
    if len(nll) < 2:
        return []
    others = np.where(np.eye(len(nll), dtype=bool), np.inf, nll).min(axis=1)
    return [judged(name, float((nll.diagonal() < others).mean()))]


def projection_random_top1(probe: Probe) -> list[MemoryCheck]:
    """`document_top1` with the projection of slots replaced by random weights of the same scale."""
    with _random_projection(probe.model):
        return document_top1(confusion(probe), "projection_random_top1")


def reconstruction_rouge_l(probe: Probe) -> list[MemoryCheck]:
    """ROUGE-L of sampled documents, decoded greedily from their slots alone."""
    model, scores = probe.model, []
    for row in _sample(probe):
        sentences = _beginning(probe, row)
        spans = model.spans[row].masked_fill(model.spans[row] >= len(sentences), UNUSED)
        rebuilt = reconstruct(model, model.z[row], spans, 1 + max(map(len, sentences), default=0))
        scores.append(rouge_l(rebuilt, " ".join(map(model.backbone.decode, sentences))))
    return [judged("reconstruction_rouge_l", float(np.mean(scores)))] if scores else []


def z_shuffle_coverage(probe: Probe) -> list[MemoryCheck]:
    """Coverage where routing stays and another document's slots are read; beside it, `free_coverage` without that.

    Which document stands in for which is a fixed cyclic shift. Documents that say the answer themselves are stepped
    over: reading one of those would be knowledge in Z.
    """
    order = probe.rows_in_hash_order("shuffle")
    place = {row: position for position, row in enumerate(order)}
    true, shuffled = [], []
    for number, row in enumerate(probe.routed):
        others = (order[(place[row] + step) % len(order)] for step in range(1, len(order)))
        other = next((other for other in others if not probe.states_answer(number, other)), None)
        if other is not None:
            true.append((number, row))
            shuffled.append((number, other))
    if not true:
        return []
    return [
        MemoryCheck("free_coverage", None, _coverage(probe, true)),
        judged("z_shuffle_coverage", _coverage(probe, shuffled)),
    ]


def oracle_routing_coverage(probe: Probe) -> list[MemoryCheck]:
    """Coverage where the (first) gold document is read, whatever routing says."""
    pairs = [(number, asked.gold[0]) for number, asked in enumerate(probe.asked)]
    return [judged("oracle_routing_coverage", _coverage(probe, pairs))] if pairs else []


def alpha_sweep(probe: Probe) -> list[MemoryCheck]:
    """Coverage with what the LLM sees of the slots scaled by alpha; routing does not depend on it."""
    pairs = list(enumerate(probe.routed))
    if not pairs:
        return []
    checks = []
    for alpha in ALPHAS:
        with _scaled(probe.model, alpha):
            checks.append(MemoryCheck("alpha_sweep", alpha, _coverage(probe, pairs)))
    return checks


def coverage_by_documents(probe: Probe) -> list[MemoryCheck]:
    """Coverage in memories that hold a quarter, half and all of the documents, each within the next.

    The same questions are asked every time: those whose gold documents are in the smallest memory.
    """
    gold = {row for asked in probe.asked for row in asked.gold}
    order = sorted(probe.rows_in_hash_order("documents"), key=lambda row: row not in gold)
    smallest = set(order[: _part(len(order), SHARES[0])])
    numbers = [number for number, asked in enumerate(probe.asked) if smallest.issuperset(asked.gold)]
    if not numbers:
        return []
    checks = []
    for n in sorted({_part(len(order), share) for share in SHARES}):
        kept = sorted(order[:n])
        best = probe.scores(numbers, kept).argmax(1).tolist()
        pairs = [(number, kept[column]) for number, column in zip(numbers, best, strict=True)]
        checks.append(MemoryCheck("coverage_by_documents", n, _coverage(probe, pairs)))
    return checks


def coverage_by_slots(probe: Probe) -> list[MemoryCheck]:
    """Coverage where documents are encoded anew into fewer slots (policy `separated`); routing stays.

    All points, the one with all slots too, are of the encoder alone: a document refined in one number of slots
    cannot be compared with one that is not in another.
    """
    model = probe.model
    if model.encoder is None or not probe.asked:
        return []
    rows = list(dict.fromkeys(probe.routed))
    written = WritingSettings(batch_size=probe.batch_size)
    documents = [sentence_ids(model.backbone, probe.documents[row].text) for row in rows]
    places = [rows.index(row) for row in probe.routed]
    numbers = range(len(probe.asked))
    checks = []
    slots = model.settings.slots
    while slots >= 1:
        z, spans, _ = encode_documents(model, documents, written, slots=slots)
        texts = probe.read(numbers, z[places], spans[places])
        checks.append(MemoryCheck("coverage_by_slots", slots, probe.coverage(numbers, texts)))
        slots //= 2
    return checks[::-1]


_CHECKS = (
    projection_random_top1,
    reconstruction_rouge_l,
    oracle_routing_coverage,
    z_shuffle_coverage,
    alpha_sweep,
    coverage_by_documents,
    coverage_by_slots,
    deleted_leak_coverage,
)


def _sample(probe: Probe) -> list[int]:
    return probe.rows_in_hash_order("confusion")[:_SAMPLED_DOCUMENTS]


def _beginning(probe: Probe, row: int) -> list[list[int]]:
    """Token ids of a document's first spans."""
    model = probe.model
    if model.encoder is None:
        return [model.backbone.encode(probe.documents[row].text, _DOCUMENT_TOKENS)]
    sentences = sentence_ids(model.backbone, probe.documents[row].text)
    run = sentences_per_span(len(sentences), model.z.shape[1])
    kept: list[list[int]] = []
    for at in range(0, len(sentences), run):
        part = [token for ids in sentences[at : at + run] for token in ids]
        if sum(map(len, kept)) + len(part) > _DOCUMENT_TOKENS:
            return kept or [part[:_DOCUMENT_TOKENS]]
        kept.append(part)
    return kept


def _coverage(probe: Probe, pairs: Sequence[tuple[int, int]]) -> float:
    return probe.coverage([number for number, _ in pairs], probe.free_texts(pairs))


def _part(n: int, share: float) -> int:
    return max(1, round(n * share))


def _line(name: str, found: Sequence[MemoryCheck]) -> str:
    if not found:
        return f"{name}: nothing to measure it on"
    parts = []
    for check in found:
        label = check.check_name if check.parameter is None else f"{check.parameter:g}:"
        verdict = "" if check.passed is None else (" (passed)" if check.passed else " (failed)")
        parts.append(f"{label} {check.value:.3f}{verdict}")
    sweep = f"{name}  " if found[0].parameter is not None else ""
    return sweep + "  ".join(parts)


@contextmanager
def _random_projection(model: MemoryModel) -> Iterator[None]:
    weight = model.projection.weight
    before = weight.detach().clone()
    drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            weight.copy_(drawn.to(weight) * before.std())
        yield
    finally:
        with torch.no_grad():
            weight.copy_(before)


@contextmanager
def _scaled(model: MemoryModel, alpha: float) -> Iterator[None]:
    before = model.alpha
    model.alpha = alpha
    try:
        yield
    finally:
        model.alpha = before
