"""Training a pretrained LLM's adapter to read slots: to repeat a sentence, to quote the one that answers, to ask.

The codec is trained already and stays; its mistakes are part of what the adapter learns to read. The loss is the mean
NLL of the target's tokens, of which the first ones count more: greedy decoding that starts wrong stays wrong.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import nn

from zrag_core.model.architecture.attention import float32_attention
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.training.progress import TrainingHooks, TrainingMonitor
from zrag_core.model.training.reading_data import ReadingExample, ReadingSource
from zrag_core.model.training.skill_training import schedule
from zrag_core.model.training.state import Trained
from zrag_core.settings import SkillSettings

_AVERAGE = 0.97
_FIRST_TOKENS, _FIRST_WEIGHT = 3, 3.0


def train_reading(
    model: LanguageMemory,
    source: ReadingSource,
    settings: SkillSettings,
    *,
    fingerprint: str,
    hooks: TrainingHooks | None = None,
) -> dict[str, float]:
    """Train the adapter in place for `settings.steps` steps of `settings.documents` examples.

    Returns:
        Running means of the losses at the end, and the seconds that training took.
    """
    parameters = {n: p for n, p in model.lm.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.0)
    trained = Trained(parameters, [optimizer], fingerprint)
    monitor = TrainingMonitor(
        hooks or TrainingHooks(), trained, steps=settings.steps, save_every=settings.save_every, decay=_AVERAGE
    )
    model.train()
    with float32_attention(model.backbone, compiled=settings.compile):
        for step in range(monitor.first, settings.steps):
            rate = schedule(step, settings)
            optimizer.param_groups[0]["lr"] = settings.lr * rate
            rng = random.Random(f"{settings.seed}:{step}")
            torch.manual_seed(rng.randrange(1 << 62))  # the adapter's dropout
            examples = source.draw(rng, settings.documents)
            losses, tokens = reading_losses(model, examples)
            total = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
            optimizer.step()
            monitor.average({name: loss.item() for name, loss in losses.items()})
            monitor.finish_step(step, tokens, settings.lr * rate)
    model.eval()
    return {**monitor.losses, "seconds": monitor.seconds}


def reading_losses(model: LanguageMemory, examples: Sequence[ReadingExample]) -> tuple[dict[str, torch.Tensor], int]:
    """The loss of each task, as its share of the batch, and the tokens that were read."""
    prompt = model.assemble([_prompt_parts(model, example) for example in examples])
    eos = model.backbone.eos_id
    # A question is asked to its end, but nothing says that it ends there when the likelihood is taken.
    targets = [model.backbone.encode(e.target) + ([] if e.task == "question" else [eos]) for e in examples]
    nll, owner = model.target_nll(prompt, targets, targets)
    places = torch.cat([torch.arange(len(target)) for target in targets]).to(nll.device)
    weights = torch.where(places < _FIRST_TOKENS, _FIRST_WEIGHT, 1.0)
    losses: dict[str, torch.Tensor] = {}
    for task in dict.fromkeys(example.task for example in examples):
        rows = torch.tensor([example.task == task for example in examples], device=nll.device)
        own = rows[owner]
        share = float(rows.float().mean())
        losses[task] = share * (nll[own] * weights[own]).sum() / weights[own].sum()
    return losses, int(prompt.mask.sum()) + sum(map(len, targets))


def _prompt_parts(model: LanguageMemory, example: ReadingExample) -> list[torch.Tensor]:
    encode, words, slots, own = model.backbone.encode, model.words, model.slot_vectors, model.prompts
    if example.task == "question":
        return [
            words(own.passage),
            slots(encode(example.title)),
            words(": "),
            slots(encode(example.sentences[0])),
            words(own.ask),
        ]
    read: list[torch.Tensor] = []
    for sentence in example.sentences:
        read += [*([words("\n")] if read else []), slots(encode(sentence))]
    if example.task == "repeat":
        return [words(own.passage), *read, words(own.repeat)]
    return [words(own.passage), *read, words(own.question), words(example.question), words(own.quote)]
