"""Skill training: theta learns to write, route, find and read on documents that are thrown away after their step.

What a document says must pass through its slots, because nothing in theta has ever seen it. Four things make that
learnable in an hour on a CPU: a loss of its own for finding the sentence that a question asks for; rebuilding sentences
from their slots with most input tokens masked (a language model alone cannot guess them, so the slots must hold them);
a curriculum from one token per slot to many; and Muon for the weight matrices (Jordan et al. 2024).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.model.architecture.attention import float32_attention
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.architecture.document_keys import DocumentKeys
from zrag_core.model.architecture.document_words import document_frequency
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.architecture.slot_router import SlotKeys, inverse_frequency
from zrag_core.model.architecture.spans import span_slots
from zrag_core.model.architecture.word_lists import WordIndex, text_words, title_words
from zrag_core.model.store.stored_settings import skill_folder_values
from zrag_core.model.training.process_group import ALONE, ProcessGroup
from zrag_core.model.training.progress import TrainingHooks, TrainingMonitor
from zrag_core.model.training.skill_batch import Example, SkillBatch, make_batch
from zrag_core.model.training.skill_data import SkillSource
from zrag_core.model.training.state import Trained
from zrag_core.settings import Settings, SkillSettings
from zrag_core.settings.backbone import TINY

SKILL_VERSION = 3
"""Part of the fingerprint: raise it when the training procedure changes."""

_AVERAGE = 0.96
_NEW_LEVEL = 1.0  # the running mean starts from here at a new level, so that no level is left at once
_TOKENIZER_DOCUMENTS = 4000


@dataclass(frozen=True, slots=True)
class SkillResult:
    """A trained skill.

    Attributes:
        model: theta; its memory is empty.
        resumed_from: step it went on from; 0 where it started afresh.
        losses: running means at the end, nats per token (routing: per query).
        seconds: of training, over all its parts where it was resumed.
    """

    model: SeparatedMemory
    steps: int
    resumed_from: int
    losses: dict[str, float]
    seconds: float


def train_skill(
    model: SeparatedMemory,
    source: SkillSource,
    settings: SkillSettings,
    *,
    fingerprint: str,
    hooks: TrainingHooks | None = None,
    group: ProcessGroup = ALONE,
) -> SkillResult:
    """Train theta for `settings.steps` steps, in place.

    Every step draws its documents from a generator seeded by (seed, step): a run that was stopped and resumed takes
    the same steps as one that was not, on a CPU for hours as on a GPU for minutes.

    Args:
        model: a model without documents, policy `separated`.
        source: where the documents come from.
        fingerprint: tells whether a stored state belongs to this training.
        hooks: how the run is resumed and followed; left out: neither.
        group: the processes that all call this with the same arguments; in each the model becomes the same.
    """
    parameters, optimizers = _optimizers(model, settings)
    trained, steps = Trained(parameters, optimizers, fingerprint), settings.steps
    monitor = TrainingMonitor(
        hooks or TrainingHooks(),
        trained,
        steps=steps,
        save_every=settings.save_every,
        decay=_AVERAGE,
        is_main=group.is_main,
    )
    base_rates = [[each["lr"] for each in optimizer.param_groups] for optimizer in optimizers]
    slots, stride = model.settings.slots, model.settings.stride
    model.train()
    with _faster(model.backbone, settings):
        for step in range(monitor.first, steps):
            rate = schedule(step, settings)
            for optimizer, rates in zip(optimizers, base_rates, strict=True):
                for each, base in zip(optimizer.param_groups, rates, strict=True):
                    each["lr"] = base * rate
            rng = random.Random(f"{settings.seed}:{step}")
            torch.manual_seed(rng.randrange(1 << 62) + group.rank)  # the adapter's dropout
            batch = make_batch(source, model.backbone, settings, rng, slots=slots, stride=stride, level=monitor.level)
            monitor.average(_step(model, batch, settings, trained, group))
            if monitor.losses.get("evidence", _NEW_LEVEL) < settings.level_loss and monitor.level < stride - 1:
                monitor.level += 1
                monitor.losses["evidence"] = max(monitor.losses["evidence"], _NEW_LEVEL)
            monitor.finish_step(step, _tokens(batch), settings.lr * rate, {"level": monitor.level})
    model.eval()
    return SkillResult(model, steps, monitor.first, monitor.losses, monitor.seconds)


def _step(
    model: SeparatedMemory, batch: SkillBatch, settings: SkillSettings, trained: Trained, group: ProcessGroup
) -> dict[str, float]:
    weights = {name: getattr(settings, f"{name}_weight") for name in ("finding", "reconstruction", "routing")}
    with _autocast(model, settings):
        losses = skill_losses(model, batch, settings, group)
        total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
    model.zero_grad(set_to_none=True)
    if total.requires_grad:  # else there was no part of this process
        total.backward()
    parameters = list(trained.parameters.values())
    group.add_gradients(parameters)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in trained.optimizers:
        optimizer.step()
    return group.add({name: loss.item() for name, loss in losses.items()})


def skill_losses(
    model: SeparatedMemory, batch: SkillBatch, settings: SkillSettings, group: ProcessGroup = ALONE
) -> dict[str, torch.Tensor]:
    """Losses of one batch: `evidence` (the right span is read), `finding`, `reconstruction` and `routing`.

    Of a group, every process writes all documents, which routing compares, and has its part of everything else.
    """
    z, spans = model.encode(batch.sentences, batch.stride, batch.slots)
    losses = {}
    if batch.reads:
        nll = _read_nll(model, z, spans, group.own(batch.reads), batch.stride)
        losses["evidence"] = nll.sum() / sum(len(example.target) for example in batch.reads)
    if settings.finding_weight > 0 and batch.finds:
        losses["finding"] = _finding_nll(model, z, spans, group.own(batch.finds)).sum() / len(batch.finds)
    if settings.reconstruction_weight > 0 and batch.rebuilds:
        nll = _rebuilding_nll(model, z, spans, group.own(batch.rebuilds), batch.stride)
        losses["reconstruction"] = nll.sum() / sum(len(example.target) for example in batch.rebuilds)
    if settings.routing_weight > 0 and batch.queries:
        losses["routing"] = _routing_nll(model, z, spans, batch, group).sum() / len(batch.queries)
    return losses


def _read_nll(
    model: SeparatedMemory, z: torch.Tensor, spans: torch.Tensor, reads: Sequence[Example], stride: int
) -> torch.Tensor:
    """Nats [tokens] of the evidence of some questions."""
    if not reads:
        return z.new_zeros(0)
    queries, targets = [example.given for example in reads], [example.target for example in reads]
    return model.read_nll(*_prefixes(z, spans, reads), queries, targets, stride)[0]


def _finding_nll(
    model: SeparatedMemory, z: torch.Tensor, spans: torch.Tensor, finds: Sequence[Example]
) -> torch.Tensor:
    """Nats [questions] of the right spans."""
    if not finds:
        return z.new_zeros(0)
    rows = torch.tensor([example.row for example in finds], device=z.device)
    logits = model.span_logits([example.given for example in finds], z[rows], spans[rows])
    null = logits.shape[1] - 1
    wanted = [null if example.span is None else example.span for example in finds]
    return F.cross_entropy(logits.float(), torch.tensor(wanted, device=z.device), reduction="none")


def _rebuilding_nll(
    model: SeparatedMemory, z: torch.Tensor, spans: torch.Tensor, rebuilds: Sequence[Example], stride: int
) -> torch.Tensor:
    """Nats [tokens] of some sentences behind their slots."""
    if not rebuilds:
        return z.new_zeros(0)
    masked, targets = [example.given for example in rebuilds], [example.target for example in rebuilds]
    return model.write_nll(*_prefixes(z, spans, rebuilds), masked, targets, stride)[0]


def _routing_nll(
    model: SeparatedMemory, z: torch.Tensor, spans: torch.Tensor, batch: SkillBatch, group: ProcessGroup
) -> torch.Tensor:
    """Nats [own queries] of the right documents among all that were written."""
    queries = group.own(batch.queries)
    if not queries:
        return z.new_zeros(0)
    words = WordIndex(title_words(batch.documents)), WordIndex(text_words(batch.documents))
    idf = inverse_frequency(document_frequency(batch.documents).to(z.device), len(batch.documents))
    keys = DocumentKeys(*words, idf, SlotKeys(model.router.span_keys(z, spans), spans))
    scores = model.routing_scores([text for text, _, _ in queries], [ids for _, ids, _ in queries], keys)
    wanted = torch.tensor([row for _, _, row in queries], device=z.device)
    return F.cross_entropy(scores.float(), wanted, reduction="none")


def _prefixes(z: torch.Tensor, spans: torch.Tensor, examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.tensor([example.row for example in examples], device=z.device)
    return span_slots(z[rows], spans[rows], [example.span or 0 for example in examples])


def schedule(step: int, settings: SkillSettings) -> float:
    """Share of the base learning rate: linear warm-up, constant, linear decay to zero (Hu et al. 2024, MiniCPM)."""
    rise = max(1, round(settings.warmup * settings.steps))
    fall = max(1, round(settings.decay * settings.steps))
    return min(1.0, (step + 1) / rise, (settings.steps - step) / fall)


def skill_fingerprint(settings: Settings, source_name: str) -> str:
    """Identifies a skill by everything that it depends on."""
    payload = {
        "version": SKILL_VERSION,
        "source": source_name,
        **skill_folder_values(settings),
    }
    text = json.dumps(payload, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def new_model(settings: Settings, source: SkillSource) -> SeparatedMemory:
    """The model that skill training starts from, without documents.

    `zrag-tiny` gets a tokenizer learned from documents and questions of `source`; everything is drawn from
    `settings.skill.seed`.
    """
    seed = settings.skill.seed
    texts: list[str] = []
    if settings.backbone.name == TINY:
        rng = random.Random(f"{seed}:tokenizer")
        for item in source.draw(rng, _TOKENIZER_DOCUMENTS, settings.skill.questions):
            texts += [item.document.text, *(question for question, _ in item.asked)]
    backbone = create_backbone(settings.backbone, texts, seed=seed)
    torch.manual_seed(seed)
    return SeparatedMemory(backbone, settings.separated)


def _optimizers(
    model: SeparatedMemory, settings: SkillSettings
) -> tuple[dict[str, nn.Parameter], list[torch.optim.Optimizer]]:
    named = {n: p for n, p in model.named_parameters() if p.requires_grad and n != "z"}
    # Muon is for the hidden weight matrices of a network trained from scratch, not for low-rank factors or embeddings.
    whole = model.backbone.peft is None
    matrices = [p for n, p in named.items() if whole and ".layers." in n and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in named.values() if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.01)
    ]
    if matrices:
        optimizers.append(
            torch.optim.Muon(matrices, lr=settings.lr_matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        )
    return named, optimizers


def _faster(backbone: Backbone, settings: SkillSettings) -> AbstractContextManager[Any]:
    return float32_attention(backbone, compiled=settings.compile) if settings.autocast else nullcontext()


def _autocast(model: SeparatedMemory, settings: SkillSettings) -> AbstractContextManager[Any]:
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=settings.autocast)


def _tokens(batch: SkillBatch) -> int:
    written = sum(len(ids) for document in batch.sentences for ids in document)
    read = sum(len(e.given) + len(e.target) for e in (*batch.finds, *batch.reads, *batch.rebuilds))
    return written + read + sum(len(query) for _, query, _ in batch.queries)
