"""Writing a corpus into Z with theta frozen: one forward pass per document, then gradient steps on its slots alone.

Every document is written by itself: its examples come from its own text and questions, its random numbers from its
own content hash, and no other document enters its loss. Writing it again, alone or beside others, gives the same
slots up to floating-point rounding.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from zrag_core.corpus.self_study import self_study_query
from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.model.architecture.encoder import Sentences
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.architecture.spans import sentence_ids, span_slots
from zrag_core.sentences import split_sentences
from zrag_core.settings import WritingSettings

_BETAS = (0.9, 0.95)
_PADDING = 1.15  # the longest document of a batch may be so many times as long as the shortest
_QUERY_TOKENS, _EVIDENCE_TOKENS = 64, 96  # as long as in skill training; what is longer is cut
_AVERAGE = 0.8  # of a document's loss, for the stopping rule


@dataclass(frozen=True, kw_only=True)
class WritingReport:
    """What writing took, of N documents in their order.

    Attributes:
        encode_seconds: of the forward passes.
        refine_seconds: of the gradient steps.
        steps: gradient steps that each document took, [N]; 0 where there was no sentence to study and no question.
        loss: running mean of each document's loss when it stopped, nats per token, [N]; nan where none were taken.
        longest: tokens of the longest document.
        studied: SHA-256 of the questions and sentences that each row was refined on, in hexadecimal, [N]; of nothing
            where there were no gradient steps. A row is a function of this, its document, theta and the settings.
    """

    encode_seconds: float
    refine_seconds: float
    steps: torch.Tensor
    loss: torch.Tensor
    longest: int
    studied: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Written(WritingReport):
    """What writing produced and what it took.

    Attributes:
        z: [N, m, d] slots, in the documents' order.
        spans: [N, m] span of each slot.
    """

    z: torch.Tensor
    spans: torch.Tensor


@dataclass(frozen=True, slots=True)
class Study:
    """What a document is refined on.

    Attributes:
        studied: sentences that self-study may ask for, each with its span.
        asked: (question, evidence, span of the evidence).
    """

    document: Document
    studied: list[tuple[str, int]]
    asked: list[tuple[str, str, int]]

    @property
    def digest(self) -> str:
        """SHA-256 over all that is studied, in its order, which the random choices depend on."""
        return hashlib.sha256(json.dumps([self.studied, self.asked]).encode("utf-8")).hexdigest()


def write_documents(
    model: SeparatedMemory,
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
    model.eval()
    sentences = [sentence_ids(model.backbone, document.text) for document in documents]
    z, spans, encode_seconds = encode_documents(model, sentences, settings, on_progress=on_progress)
    steps = torch.zeros(len(documents), dtype=torch.long)
    loss = torch.full((len(documents),), float("nan"))
    started = time.perf_counter()
    studies = plan_studies(documents, targets, model, settings)
    if settings.steps:
        for start in range(0, len(documents), settings.batch_size):
            rows = slice(start, start + settings.batch_size)
            z[rows], steps[rows], loss[rows] = _refine(model, z[rows], spans[rows], studies[rows], settings)
            if on_progress:
                on_progress("refined", min(start + settings.batch_size, len(documents)), len(documents))
    seconds = time.perf_counter() - started
    longest = max((sum(map(len, ids)) for ids in sentences), default=0)
    studied = tuple(study.digest for study in studies)
    return Written(
        z=z,
        spans=spans,
        encode_seconds=encode_seconds,
        refine_seconds=seconds,
        steps=steps,
        loss=loss,
        longest=longest,
        studied=studied,
    )


@torch.no_grad()
def encode_documents(
    model: SeparatedMemory,
    documents: Sequence[Sentences],
    settings: WritingSettings,
    *,
    slots: int | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Slots [N, m, d] and their spans [N, m] by forward passes alone, and the seconds that they took.

    Batches are of documents of similar length.

    Args:
        documents: token ids of their sentences.
        slots: another number than the model's own (to see what they are worth).
    """
    started = time.perf_counter()
    n, slots = len(documents), slots or model.slots_for(documents)
    z = torch.zeros(n, slots, model.shape[-1], device=model.device)
    spans = torch.zeros(n, slots, dtype=torch.int16, device=model.device)
    done = 0
    for rows in _alike([sum(map(len, document)) for document in documents], settings.batch_size):
        made, numbers = model.encode([documents[row] for row in rows], slots=slots)
        z[rows], spans[rows] = made.float(), numbers.short()
        before, done = done // settings.batch_size, done + len(rows)
        if on_progress and (done == n or done // settings.batch_size > before):
            on_progress("encoded", n if done == n else done // settings.batch_size * settings.batch_size, n)
    return z, spans, time.perf_counter() - started


def _alike(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Batches of rows of similar length: a few documents of all lengths would be padding for a good part."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not batches or len(batches[-1]) == most or lengths[row] > _PADDING * lengths[batches[-1][0]]:
            batches.append([])
        batches[-1].append(row)
    return batches


def plan_studies(
    documents: Sequence[Document], targets: Sequence[EvidenceTarget], model: SeparatedMemory, settings: WritingSettings
) -> list[Study]:
    """What each document is refined on: nothing where no step is taken."""
    if not settings.steps:
        return [Study(document, [], []) for document in documents]
    asked: dict[str, list[tuple[str, str]]] = {document.id: [] for document in documents}
    studied: dict[str, dict[str, None]] = {document.id: {} for document in documents}
    for target in targets:
        if target.split != "train" or len(target.document_ids) != 1 or target.document_ids[0] not in asked:
            continue
        if target.method == "self_study":
            studied[target.document_ids[0]][target.evidence] = None
        else:
            asked[target.document_ids[0]].append((target.query, target.evidence))
    studies = []
    for document in documents:
        texts = [span.text for span in split_sentences(document.text)]
        run = model.sentences_per_span(len(texts))
        place = {text: number // run for number, text in reversed(list(enumerate(texts)))}
        studies.append(
            Study(
                document,
                [(text, place[text]) for text in studied[document.id] if text in place],
                # Evidence of several sentences, or of a part of one, has no span of its own to be read from.
                [(query, text, place[text]) for query, text in asked[document.id] if text in place],
            )
        )
    return studies


@torch.enable_grad()
def _refine(
    model: SeparatedMemory,
    start: torch.Tensor,
    spans: torch.Tensor,
    studies: Sequence[Study],
    settings: WritingSettings,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Adam on each document's slots until its loss is below the tolerance, in directions that routing does not see."""
    device = model.device
    unseen = model.unseen_directions().to(device)
    change = torch.zeros_like(start)
    moments = torch.zeros_like(start), torch.zeros_like(start)
    taken = torch.zeros(len(studies), dtype=torch.long)
    means = torch.full((len(studies),), float("nan"))
    active = [i for i, study in enumerate(studies) if study.studied or study.asked]
    for step in range(settings.steps):
        if not active:
            break
        rows = torch.tensor(active, device=device)
        moved = change[rows].requires_grad_(True)
        with _frozen(model):
            z = start[rows] + moved @ unseen
            losses = _study_losses(model, z, spans[rows], [studies[i] for i in active], step, settings)
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
    moved_rows = taken > 0
    refined = start.clone()
    refined[moved_rows] = model.settle(start + change @ unseen)[moved_rows]
    return refined, taken, means


@contextmanager
def _frozen(model: SeparatedMemory) -> Iterator[None]:
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
    model: SeparatedMemory,
    z: torch.Tensor,
    spans: torch.Tensor,
    studies: Sequence[Study],
    step: int,
    settings: WritingSettings,
) -> torch.Tensor:
    """Loss of each document, [B]: mean NLL of its evidence tokens."""
    backbone = model.backbone
    rows, wanted, queries, targets = [], [], [], []
    for row, study in enumerate(studies):
        rng = random.Random(f"{settings.seed}:{study.document.content_hash}:{step}")
        for _ in range(settings.queries):
            if study.asked and (not study.studied or rng.random() < settings.asked_share):
                query, evidence, span = rng.choice(study.asked)
            else:
                evidence, span = rng.choice(study.studied)
                query = self_study_query(study.document, evidence, rng)
            rows.append(row)
            wanted.append(span)
            queries.append(backbone.encode(query, _QUERY_TOKENS))
            targets.append([*backbone.encode(evidence, _EVIDENCE_TOKENS), backbone.eos_id])
    owner = torch.tensor(rows, device=z.device)
    nll, number = model.read_nll(*span_slots(z[owner], spans[owner], wanted), queries, targets)
    owner = owner[number]
    counts = torch.bincount(owner, minlength=len(studies))
    return torch.zeros(len(studies), device=nll.device).index_add(0, owner, nll) / counts
