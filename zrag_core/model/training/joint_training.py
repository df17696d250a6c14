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
from zrag_core.model.training.examples import ReadExample, TrainingSet, build_training_set
from zrag_core.model.training.joint_batch import JointBatch, Rebuilt, draw_batch, questions_per_batch
from zrag_core.model.training.process_group import ALONE, ProcessGroup
from zrag_core.model.training.progress import TrainingHooks, TrainingMonitor
from zrag_core.model.training.state import Trained
from zrag_core.settings import JointSettings, Settings

TRAINING_VERSION = 2
"""Part of the fingerprint: raise it when the training procedure changes."""

_AVERAGE = 0.95


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
    group: ProcessGroup = ALONE,
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
        group: the processes that all call this with the same arguments; each returns the same model.

    Raises:
        CorpusError: there is nothing to train on.
    """
    training = settings.joint
    torch.set_num_threads(max(1, settings.backbone.cpu_threads // group.size))
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
        hooks or TrainingHooks(),
        trained,
        steps=steps,
        save_every=training.save_every,
        decay=_AVERAGE,
        is_main=group.is_main,
    )
    model.train()
    base_rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(monitor.first, steps):
        rate = schedule(step, steps, training.warmup)
        for parameters_of, base in zip(optimizer.param_groups, base_rates, strict=True):
            parameters_of["lr"] = base * rate
        losses, tokens = _step(model, data, training, step, optimizer, group)
        monitor.average(losses)
        monitor.finish_step(step, tokens, training.lr_theta * rate)
    model.eval()
    seconds = monitor.seconds
    dev = build_training_set(documents, targets, backbone, training, split="dev").examples
    dev_loss = evaluation_loss(model, dev, training.batch_size, group)
    return TrainingResult(
        model, steps, monitor.first, monitor.losses, dev_loss, seconds, dict(data.truncated), data.unplaced
    )


@torch.no_grad()
def evaluation_loss(
    model: JointMemory, examples: Sequence[ReadExample], batch_size: int, group: ProcessGroup = ALONE
) -> float | None:
    """Mean evidence NLL per token of held-out examples, each reading its gold document; None without any."""
    total, mine = 0.0, group.own(examples)
    for start in range(0, len(mine), batch_size):
        batch = mine[start : start + batch_size]
        nll = _read_nll(model, [example.row for example in batch], batch)
        total += nll.mean().item() * len(nll)
    tokens = sum(len(example.evidence) for example in examples)
    return group.add({"nats": total})["nats"] / tokens if tokens else None


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


def _steps_of(training: JointSettings, data: TrainingSet) -> int:
    """Optimiser steps of `epochs` passes over the training questions (over the sentences, where none are asked)."""
    asked = questions_per_batch(training, data)
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
    model: JointMemory,
    data: TrainingSet,
    training: JointSettings,
    step: int,
    optimizer: torch.optim.Optimizer,
    group: ProcessGroup,
) -> tuple[dict[str, float], int]:
    rng = random.Random(f"{training.seed}:{step}")
    seed = rng.randrange(1 << 62)
    # Dropout inside the LLM is drawn for what a process reads, so each draws its own.
    inside = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    torch.manual_seed(seed + group.rank if inside else seed)
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, float] = {}
    tokens = 0
    for part in range(training.gradient_accumulation):
        batch = draw_batch(data, model.backbone, training, rng, step * training.gradient_accumulation + part)
        losses, seen = _losses(model, batch, training, group)
        total = sum(getattr(training, f"{name}_weight") * loss for name, loss in losses.items())
        (total / training.gradient_accumulation).backward()
        tokens += seen
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item() / training.gradient_accumulation
    parameters = [p for each in optimizer.param_groups for p in each["params"]]
    group.add_gradients(parameters)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return group.add(sums), round(group.add({"tokens": tokens})["tokens"])


def _losses(
    model: JointMemory, batch: JointBatch, training: JointSettings, group: ProcessGroup
) -> tuple[dict[str, torch.Tensor], int]:
    """This process' part of each loss of a batch, and how many tokens it read."""
    mine = group.own(range(len(batch.queries)), batch.number)
    asked = [batch.queries[n] for n in mine]
    queries = [example.query for example in asked]
    vectors = model.query_vectors([example.text for example in asked], queries)  # [own, m * d]
    # Drawn for the whole batch, so that every process drops what one process would.
    kept = F.dropout(vectors.new_ones(len(batch.queries), vectors.shape[1]), training.query_dropout)
    scores = model.router.scores(vectors * kept[mine], model.z)
    losses = {"routing": routing_nll(scores, [example.gold_rows for example in asked]).sum() / len(batch.queries)}
    tokens = sum(map(len, queries))
    if training.evidence_weight > 0:
        whole = sum(len(example.evidence) for example in batch.queries)
        losses["evidence"] = _read_nll(model, [batch.rows[n] for n in mine], asked).sum() / whole
        tokens += sum(map(len, queries)) + sum(len(example.evidence) for example in asked)
    if training.reconstruction_weight > 0:
        whole = sum(len(target) for _, _, target in batch.rebuilt)
        rebuilt = group.own(batch.rebuilt, batch.number)
        losses["reconstruction"] = _write_nll(model, rebuilt).sum() / whole
        tokens += sum(len(target) for _, _, target in rebuilt)
    return losses, tokens


def _read_nll(model: JointMemory, rows: Sequence[int], examples: Sequence[ReadExample]) -> torch.Tensor:
    """Nats [tokens] of the evidence of examples that read these rows."""
    slots = whole_document(model.z[torch.tensor(rows, device=model.device)])
    return model.read_nll(*slots, [example.query for example in examples], [e.evidence for e in examples])[0]


def _write_nll(model: JointMemory, rebuilt: Sequence[Rebuilt]) -> torch.Tensor:
    """Nats [tokens] of documents to rebuild; none where this process has no part of them."""
    if not rebuilt:
        return torch.zeros(0, device=model.device)
    rows, masked, targets = zip(*rebuilt, strict=True)
    return model.write_nll(*whole_document(model.z[torch.tensor(rows, device=model.device)]), masked, targets)[0]


def routing_nll(scores: torch.Tensor, gold_rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """-log of the probability [B] that routing gives to any gold document; scores [B, N]."""
    gold = torch.zeros_like(scores, dtype=torch.bool)
    for row, rows in enumerate(gold_rows):
        gold[row, list(rows)] = True
    log_p = F.log_softmax(scores, dim=-1)
    return -torch.logsumexp(log_p.masked_fill(~gold, float("-inf")), dim=-1)
