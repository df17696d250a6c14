"""Writing a corpus into Z with theta frozen: one forward pass per document, then gradient steps on its slots alone.

Every document is written by itself: its examples come from its own text and questions, its random numbers from its
own content hash, and no other document enters its loss. Writing it again, alone or beside others, gives the same
slots up to floating-point rounding.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from zrag_core.corpus.self_study import self_study_query
from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.model.network import MemoryModel
from zrag_core.settings import WritingSettings

_BETAS = (0.9, 0.95)
_AVERAGE = 0.8  # of a document's loss, for the stopping rule


@dataclass(frozen=True, slots=True)
class Written:
    """What writing produced and what it took.

    Attributes:
        z: [N, m, d] slots, in the documents' order.
        encode_seconds: of the forward passes.
        refine_seconds: of the gradient steps.
        steps: gradient steps that each document took, [N]; 0 where there was no sentence to study and no question.
        loss: running mean of each document's loss when it stopped, nats per token, [N]; nan where none were taken.
        longest: tokens of the longest document.
    """

    z: torch.Tensor
    encode_seconds: float
    refine_seconds: float
    steps: torch.Tensor
    loss: torch.Tensor
    longest: int


@dataclass(frozen=True, slots=True)
class _Study:
    """What a document is refined on: token ids of its text, and (query, evidence) pairs or makers of them."""

    document: Document
    ids: list[int]
    sentences: list[str]
    asked: list[tuple[str, str]]


def write_documents(
    model: MemoryModel,
    documents: Sequence[Document],
    targets: Sequence[EvidenceTarget],
    settings: WritingSettings,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Written:
    """Write documents into slots.

    Args:
        model: theta, which stays as it is.
        documents: what is written.
        targets: training questions of these documents with evidence (other splits are not used), and self-study
            targets, which say which sentences may be studied.
        settings: batch size, steps, rates and the stopping rule.
        on_progress: called with the phase, documents done and their number.
    """
    torch.set_num_threads(settings.threads)
    model.eval()
    studies = _studies(model, documents, targets, settings)
    z, encode_seconds = encode_documents(model, [study.ids for study in studies], settings, on_progress=on_progress)
    steps = torch.zeros(len(documents), dtype=torch.long)
    loss = torch.full((len(documents),), float("nan"))
    started = time.perf_counter()
    if settings.steps:
        for start in range(0, len(documents), settings.batch_size):
            rows = slice(start, start + settings.batch_size)
            z[rows], steps[rows], loss[rows] = _refine(model, z[rows], studies[rows], settings)
            if on_progress:
                on_progress("refined", min(start + settings.batch_size, len(documents)), len(documents))
    seconds = time.perf_counter() - started
    return Written(z, encode_seconds, seconds, steps, loss, max((len(study.ids) for study in studies), default=0))


@torch.no_grad()
def encode_documents(
    model: MemoryModel,
    ids: Sequence[Sequence[int]],
    settings: WritingSettings,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> tuple[torch.Tensor, float]:
    """Slots [N, m, d] by forward passes alone, and the seconds that they took; batches are of similar length."""
    started = time.perf_counter()
    z = torch.zeros(len(ids), model.settings.slots, model.settings.width, device=model.device)
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), settings.batch_size):
        rows = order[start : start + settings.batch_size]
        z[rows] = model.encode([ids[row] for row in rows]).float()
        if on_progress:
            on_progress("encoded", min(start + settings.batch_size, len(ids)), len(ids))
    return z, time.perf_counter() - started


def _studies(
    model: MemoryModel, documents: Sequence[Document], targets: Sequence[EvidenceTarget], settings: WritingSettings
) -> list[_Study]:
    encode = model.backbone.encode
    rows = {document.id: row for row, document in enumerate(documents)}
    asked: list[list[tuple[str, str]]] = [[] for _ in documents]
    studied: list[dict[str, None]] = [{} for _ in documents]
    for target in targets:
        row = rows.get(target.document_ids[0]) if len(target.document_ids) == 1 else None
        if target.split != "train" or row is None:
            continue
        if target.method == "self_study":
            studied[row][target.evidence] = None
        else:
            asked[row].append((target.query, target.evidence))
    return [
        _Study(document, encode(document.text), list(study), questions)
        for document, study, questions in zip(documents, studied, asked, strict=True)
    ]


@torch.enable_grad()
def _refine(
    model: MemoryModel, start: torch.Tensor, studies: Sequence[_Study], settings: WritingSettings
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Adam on each document's slots until its loss is below the tolerance, in directions that routing does not see."""
    device = model.device
    unseen = model.router.unseen_directions().to(device)
    change = torch.zeros_like(start)
    moments = torch.zeros_like(start), torch.zeros_like(start)
    taken = torch.zeros(len(studies), dtype=torch.long)
    means = torch.full((len(studies),), float("nan"))
    active = [i for i, study in enumerate(studies) if study.sentences or study.asked]
    for step in range(settings.steps):
        if not active:
            break
        rows = torch.tensor(active, device=device)
        moved = change[rows].requires_grad_(True)
        with _frozen(model):
            losses = _study_losses(model, start[rows] + moved @ unseen, [studies[i] for i in active], step, settings)
        (gradient,) = torch.autograd.grad(losses.sum(), moved)
        # Adam by hand: each document has its own step count and leaves when it is done.
        for moment, beta, value in zip(moments, _BETAS, (gradient, gradient.square()), strict=True):
            moment[rows] = beta * moment[rows] + (1 - beta) * value
        first, second = (moment[rows] / (1 - beta ** (step + 1)) for moment, beta in zip(moments, _BETAS, strict=True))
        rate = settings.lr * (1 - step / settings.steps)
        change[rows] -= rate * first / (second.sqrt() + 1e-8)
        for i, value in zip(active, losses.tolist(), strict=True):
            taken[i] += 1
            means[i] = value if step == 0 else _AVERAGE * means[i] + (1 - _AVERAGE) * value
        active = [i for i in active if means[i] >= settings.tolerance]
    return start + change @ unseen, taken, means


@contextmanager
def _frozen(model: MemoryModel) -> Iterator[None]:
    """Keep theta out of the graph, which saves memory; it is trainable again afterwards."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _study_losses(
    model: MemoryModel, z: torch.Tensor, studies: Sequence[_Study], step: int, settings: WritingSettings
) -> torch.Tensor:
    """Loss of each document, [B]: mean NLL of its evidence tokens."""
    backbone = model.backbone
    pairs = []
    for study in studies:
        rng = random.Random(f"{settings.seed}:{study.document.content_hash}:{step}")
        own = []
        for _ in range(settings.queries):
            if study.asked and (not study.sentences or rng.random() < settings.asked_share):
                query, evidence = rng.choice(study.asked)
            else:
                evidence = rng.choice(study.sentences)
                query = self_study_query(study.document, evidence, rng)
            ids = [*backbone.encode(evidence, settings.evidence_tokens), backbone.eos_id]
            own.append((backbone.encode(query, settings.query_tokens), ids))
        pairs.append(own)
    nll, owner = model.packed_read_nll(z, pairs)
    counts = torch.bincount(owner, minlength=len(studies))
    return torch.zeros(len(studies), device=nll.device).index_add(0, owner, nll) / counts
