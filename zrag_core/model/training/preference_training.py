"""Training a pretrained LLM's adapter to prefer the sentence that answers: its question is to be more likely after it
than after its rivals.

The memory ranks sentences by log P(question | sentence). The loss is the listwise cross-entropy of what ranks them
(Cao et al. 2007, ListNet; for query likelihood: dos Santos et al. 2020, arXiv 2010.03073), so what is trained is what
is asked. Quoting and repeating go on beside it, and are not unlearned.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.model.architecture.attention import float32_attention
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.architecture.slot_reader import Line
from zrag_core.model.training.progress import TrainingHooks, TrainingMonitor
from zrag_core.model.training.reading_data import ReadingSource, Rivals
from zrag_core.model.training.reading_training import reading_losses
from zrag_core.model.training.state import Trained
from zrag_core.settings import SkillSettings

_AVERAGE = 0.95
_PER_NAT = 0.4  # weight of a nat of likelihood in the ranking, about what calibration fits
_QUESTIONS = 4  # of a step
_READING = 3  # examples of reading beside them
_LANGUAGE = 0.1  # weight of the question's own NLL after the sentence that answers
_RATE = 0.3  # share of the reading stage's learning rate


def train_preference(
    model: LanguageMemory,
    source: ReadingSource,
    settings: SkillSettings,
    steps: int,
    *,
    fingerprint: str,
    hooks: TrainingHooks | None = None,
) -> dict[str, float]:
    """Train the adapter in place.

    Returns:
        Running means of the losses and of the share of questions whose sentence was first, and the seconds.
    """
    parameters = {n: p for n, p in model.lm.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.0)
    trained = Trained(parameters, [optimizer], fingerprint)
    monitor = TrainingMonitor(
        hooks or TrainingHooks(), trained, steps=steps, save_every=settings.save_every, decay=_AVERAGE
    )
    model.train()
    with float32_attention(model.backbone, compiled=settings.compile):
        for step in range(monitor.first, steps):
            rate = _RATE * settings.lr * min(1.0, (step + 1) / (0.1 * steps), (steps - step) / (settings.decay * steps))
            optimizer.param_groups[0]["lr"] = rate
            rng = random.Random(f"preference:{settings.seed}:{step}")
            torch.manual_seed(rng.randrange(1 << 62))  # the adapter's dropout
            optimizer.zero_grad(set_to_none=True)
            figures: dict[str, float] = {}
            for rivals in source.rivals(rng, _QUESTIONS):  # one by one: memory
                prefer, ask, first = preference_losses(model, rivals)
                ((prefer + _LANGUAGE * ask) / _QUESTIONS).backward()
                for name, value in (("prefer", prefer.item()), ("ask", ask.item()), ("first", first)):
                    figures[name] = figures.get(name, 0.0) + value / _QUESTIONS
            losses, tokens = reading_losses(model, source.draw(rng, _READING))
            (0.5 * torch.stack(list(losses.values())).sum()).backward()
            nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
            optimizer.step()
            monitor.average(figures)
            monitor.finish_step(step, tokens, rate)
    model.eval()
    return {**monitor.losses, "seconds": monitor.seconds}


def preference_losses(model: LanguageMemory, rivals: Rivals) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Listwise cross-entropy of the sentence that answers, NLL per token of the question after it, and whether it is
    first."""
    encode, slots = model.backbone.encode, model.slot_vectors
    passages: Sequence[list[Line]] = [
        [Line(slots(encode(title)) if title else torch.zeros(0), slots(encode(sentence)))]
        for title, sentence in rivals.lines
    ]
    query = encode(rivals.question, model.query_tokens)
    likelihoods = model.question_likelihood(passages, [query] * len(passages))  # [L]
    scores = (_PER_NAT * likelihoods)[None]
    prefer = F.cross_entropy(scores, torch.zeros(1, dtype=torch.long, device=scores.device))
    return prefer, -likelihoods[0] / max(1, len(query)), float(likelihoods.argmax() == 0)
