"""The joint policy: theta and Z trained together, L = -log P(evidence | query, Z; theta).

Beside the evidence loss stand self-study queries for every sentence and reconstruction with
shuffled sentences: without them facts that no training question asks for are not stored. Known
limit of this policy: theta may take up the facts, keyed by the names in the query, and leave Z an
address. It does wherever what is read is not always right (`wrong_reads`), and the memory checks
then say so (docs/experiments.md, 17).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.corpus.version import corpus_version
from zrag_core.errors import CorpusError
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.joint_memory import JointMemory
from zrag_core.model.architecture.spans import whole_document
from zrag_core.model.architecture.word_features import feature_ids, sketch
from zrag_core.model.store.stored_settings import backbone_values, memory_values, training_values
from zrag_core.model.training.examples import (
    ReadExample,
    TrainingSet,
    build_training_set,
    mask_query,
    rows_read,
    sample_reconstruction,
    sample_self_study,
)
from zrag_core.model.training.progress import TrainingHooks, TrainingMonitor
from zrag_core.model.training.state import Trained
from zrag_core.settings import JointSettings, Settings

TRAINING_VERSION = 2
"""Part of the fingerprint: raise it when the training procedure changes."""

_AVERAGE = 0.95
_REBUILT = 0.5  # documents rebuilt per query of a batch, the costly part


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A trained model and what its training was like.

    Attributes:
        resumed_from: step it went on from; 0 where it started afresh.
        losses: running means at the end, on training examples.
        dev_loss: evidence loss on the dev split, the gold document read, nats per token; None without dev targets.
        seconds: of training, over all its parts where it was resumed.
        truncated: questions and targets that were cut to the configured lengths.
        unplaced: targets whose evidence stands in none of their documents (left out).
    """

    model: JointMemory
    steps: int
    resumed_from: int
    losses: dict[str, float]
    dev_loss: float | None
    seconds: float
    truncated: dict[str, int]
    unplaced: int


def train_joint(
    documents: Sequence[Document],
    targets: Sequence[EvidenceTarget],
    backbone: Backbone,
    settings: Settings,
    hooks: TrainingHooks | None = None,
) -> TrainingResult:
    """Train theta and Z on a corpus.

    Every step draws its batch from a generator seeded by (seed, step), so a run that was stopped
    and resumed takes the same steps as one that was not.

    Args:
        documents: row i of Z belongs to documents[i].
        targets: evidence targets; only those of the "train" split are used.
        backbone: from `create_backbone`.
        settings: `joint` is used.
        hooks: how the run is resumed and followed; left out: neither.

    Raises:
        CorpusError: there is nothing to train on.
    """
    training = settings.joint
    torch.set_num_threads(settings.backbone.cpu_threads)
    data = build_training_set(documents, targets, backbone, training)
    if not data.examples and not data.study:
        raise CorpusError(
            "nothing to train on: no training question with evidence and no self-study sentence",
            remedy="set targets.self_study_per_sentence above 0, or bring questions",
        )
    model = initialise(backbone, training, documents, seed=training.seed)
    steps = training.steps or _steps_of(training, data)
    parameters, optimizer = _optimizer(model, training)
    trained = Trained(parameters, [optimizer], training_fingerprint(documents, targets, settings))
    monitor = TrainingMonitor(
        hooks or TrainingHooks(), trained, steps=steps, save_every=training.save_every, decay=_AVERAGE
    )
    model.train()
    base_rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(monitor.first, steps):
        rate = schedule(step, steps, training.warmup)
        for group, base in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = base * rate
        losses, tokens = _step(model, data, training, step, optimizer)
        monitor.average(losses)
        monitor.finish_step(step, tokens, training.lr_theta * rate)
    model.eval()
    seconds = monitor.seconds
    dev = build_training_set(documents, targets, backbone, training, split="dev").examples
    dev_loss = evaluation_loss(model, dev, training.batch_size)
    return TrainingResult(
        model, steps, monitor.first, monitor.losses, dev_loss, seconds, dict(data.truncated), data.unplaced
    )


@torch.no_grad()
def evaluation_loss(model: JointMemory, examples: Sequence[ReadExample], batch_size: int) -> float | None:
    """Mean evidence NLL per token of held-out examples, each reading its gold document; None without any."""
    total, tokens = 0.0, 0
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        rows = torch.tensor([example.row for example in batch], device=model.device)
        n = sum(len(example.evidence) for example in batch)
        total += _read_loss(model, rows, batch).item() * n
        tokens += n
    return total / tokens if tokens else None


def initialise(backbone: Backbone, settings: JointSettings, documents: Sequence[Document], *, seed: int) -> JointMemory:
    """A model of the policy `joint` whose Z is the random projection of the documents' BM25 term weights."""
    torch.manual_seed(seed)
    model = JointMemory(backbone, settings, len(documents))
    bags = [feature_ids(document.contents) for document in documents]
    model.router.initialise(bags)
    with torch.no_grad():
        model.z.copy_(sketch(bags, settings.slots * settings.width).view_as(model.z))
    return model


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the base learning rate at `step`: linear warm-up, then cosine decay to 5%."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def training_fingerprint(documents: Sequence[Document], targets: Sequence[EvidenceTarget], settings: Settings) -> str:
    """Identifies a training run by everything that its result depends on."""
    payload = {
        "version": TRAINING_VERSION,
        "corpus": corpus_version(documents),
        "order": [document.id for document in documents],
        "targets": [(t.id, t.query, t.evidence, t.document_ids) for t in targets if t.split == "train"],
        "settings": {
            "backbone": backbone_values(settings.backbone),
            "memory": memory_values(settings, "joint"),
            # How often the state is saved does not make it another training.
            "training": {
                name: value for name, value in training_values(settings.joint).items() if name != "save_every"
            },
        },
    }
    text = json.dumps(payload, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _questions_per_batch(training: JointSettings, data: TrainingSet) -> int:
    """How many of a micro-batch are training questions; the others are self-study queries."""
    if not data.examples or not data.study:
        return training.batch_size if data.examples else 0
    return training.batch_size - round(training.self_study * training.batch_size)


def _steps_of(training: JointSettings, data: TrainingSet) -> int:
    """Optimiser steps of `epochs` passes over the training questions (over the sentences, where none are asked)."""
    asked = _questions_per_batch(training, data)
    items, per_batch = (len(data.examples), asked) if asked else (len(data.study), training.batch_size)
    return math.ceil(items * (training.epochs or 1) / (per_batch * training.gradient_accumulation))


def _optimizer(model: JointMemory, training: JointSettings) -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
    groups: list[dict[str, Any]] = [
        {"params": model.backbone.trainable(), "lr": training.lr_theta, "weight_decay": 0.01},
        {"params": model.head_parameters(), "lr": training.lr_projections, "weight_decay": 0.0},
        {"params": [model.z], "lr": training.lr_memory, "weight_decay": 0.0},
    ]
    wanted = {id(p) for group in groups for p in group["params"]}
    named = {name: p for name, p in model.named_parameters() if id(p) in wanted}
    return named, torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _step(
    model: JointMemory, data: TrainingSet, training: JointSettings, step: int, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, float], int]:
    rng = random.Random(f"{training.seed}:{step}")
    torch.manual_seed(rng.randrange(1 << 62))  # the adapter's dropout
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, float] = {}
    tokens = 0
    for part in range(training.gradient_accumulation):
        losses, seen = _losses(model, data, training, rng, step * training.gradient_accumulation + part)
        total = sum(getattr(training, f"{name}_weight") * loss for name, loss in losses.items())
        (total / training.gradient_accumulation).backward()
        tokens += seen
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item() / training.gradient_accumulation
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    return sums, tokens


def _losses(
    model: JointMemory, data: TrainingSet, training: JointSettings, rng: random.Random, micro_batch: int
) -> tuple[dict[str, torch.Tensor], int]:
    batch = _sample_batch(model, data, training, rng, micro_batch)
    queries = [example.query for example in batch]
    vectors = model.query_vectors([example.text for example in batch], queries)
    vectors = F.dropout(vectors, training.query_dropout)
    losses = {"routing": routing_loss(model.router.scores(vectors, model.z), [example.gold_rows for example in batch])}
    tokens = sum(map(len, queries))
    if training.evidence_weight > 0:
        read = torch.tensor(rows_read(batch, len(model.z), training.wrong_reads, rng), device=model.device)
        losses["evidence"] = _read_loss(model, read, batch)
        tokens += sum(map(len, queries)) + sum(len(example.evidence) for example in batch)
    if training.reconstruction_weight > 0:
        n = max(1, round(_REBUILT * len(batch)))
        drawn = [sample_reconstruction(data, model.backbone, training, rng) for _ in range(n)]
        rows = torch.tensor([row for row, _, _ in drawn], device=model.device)
        targets = [target for _, _, target in drawn]
        masked = [masked for _, masked, _ in drawn]
        losses["reconstruction"] = model.write_nll(*whole_document(model.z[rows]), masked, targets)[0].mean()
        tokens += sum(map(len, targets))
    return losses, tokens


def _read_loss(model: JointMemory, rows: torch.Tensor, batch: Sequence[ReadExample]) -> torch.Tensor:
    queries, targets = [example.query for example in batch], [example.evidence for example in batch]
    return model.read_nll(*whole_document(model.z[rows]), queries, targets)[0].mean()


def _sample_batch(
    model: JointMemory, data: TrainingSet, training: JointSettings, rng: random.Random, micro_batch: int
) -> list[ReadExample]:
    """Self-study queries at random, and the next training questions of a pass in shuffled order.

    The order depends on the seed and the pass alone, so that a resumed run goes on with the right question.
    """
    asked = _questions_per_batch(training, data)
    batch = [sample_self_study(data, model.backbone, training, rng) for _ in range(training.batch_size - asked)]
    n = len(data.examples)
    for position in range(micro_batch * asked, (micro_batch + 1) * asked):
        epoch, place = divmod(position, n)
        batch.append(data.examples[_shuffled(n, training.seed, epoch)[place]])
    if training.query_mask > 0:
        batch = [mask_query(example, model.backbone, training.query_mask, rng) for example in batch]
    return batch


@lru_cache(maxsize=4)
def _shuffled(n: int, seed: int, epoch: int) -> list[int]:
    return random.Random(f"{seed}:pass:{epoch}").sample(range(n), n)


def routing_loss(scores: torch.Tensor, gold_rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Mean -log of the probability that routing gives to any gold document; scores [B, N]."""
    gold = torch.zeros_like(scores, dtype=torch.bool)
    for row, rows in enumerate(gold_rows):
        gold[row, list(rows)] = True
    log_p = F.log_softmax(scores, dim=-1)
    return -torch.logsumexp(log_p.masked_fill(~gold, float("-inf")), dim=-1).mean()
