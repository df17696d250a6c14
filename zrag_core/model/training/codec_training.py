"""Training of the token codec: no language model is needed, since what is rebuilt are the tokens of one slot.

Slots are drawn from running text, with a share of tokens replaced by any of the vocabulary, so that rare names,
numbers and other languages' words have a code as well. The loss is the cross-entropy of each token among the tokens of
the batch and a sample of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from zrag_core.model.architecture.create_backbone import multiplies_bfloat16
from zrag_core.model.architecture.token_codec import TokenCodec, Vocabulary
from zrag_core.model.training.progress import TrainingHooks, TrainingMonitor
from zrag_core.model.training.state import Trained
from zrag_core.settings import CodecSettings

_AVERAGE = 0.98
_NEGATIVES = 6000
_WARMUP = 100  # steps
_EVALUATED = 4096  # slots


@dataclass(frozen=True, slots=True)
class CodecResult:
    """How a codec did.

    Attributes:
        accuracy: share of the tokens of held-out text that come back, among the whole vocabulary.
        accuracy_random: the same of tokens drawn from the whole vocabulary.
        seconds: of training, over all its parts.
    """

    accuracy: float
    accuracy_random: float
    seconds: float


def train_codec(
    codec: TokenCodec,
    vocabulary: Vocabulary,
    tokens: torch.Tensor,
    held_out: torch.Tensor,
    settings: CodecSettings,
    *,
    fingerprint: str,
    hooks: TrainingHooks | None = None,
) -> CodecResult:
    """Train the codec in place, for `settings.steps` steps.

    Args:
        vocabulary: of the LLM.
        tokens, held_out: running text as token ids [T].
    """
    parameters = dict(codec.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.0)
    trained = Trained(parameters, [optimizer], fingerprint)
    monitor = TrainingMonitor(
        hooks or TrainingHooks(), trained, steps=settings.steps, save_every=settings.save_every, decay=_AVERAGE
    )
    units = F.normalize(vocabulary.embeddings.float(), dim=-1)  # [V, H]
    codec.train()
    for step in range(monitor.first, settings.steps):
        rate = min(1.0, (step + 1) / _WARMUP) * (1 - step / settings.steps)
        optimizer.param_groups[0]["lr"] = settings.lr * rate
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        # Drawn on the CPU, so that every machine draws the same.
        slots = _draw(tokens, codec.stride, settings, len(units), generator).to(units.device)  # [B, s]
        loss = _loss(codec, units, slots, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.average({"codec": loss.item()})
        monitor.finish_step(step, slots.numel(), settings.lr * rate)
    codec.eval()
    uniform = torch.randint(len(units), (_EVALUATED, codec.stride), generator=torch.Generator().manual_seed(0))
    whole = held_out[: len(held_out) // codec.stride * codec.stride].view(-1, codec.stride)[:_EVALUATED]
    own, of_all = (codec_accuracy(codec, vocabulary, slots) for slots in (whole, uniform))
    return CodecResult(own, of_all, monitor.seconds)


@torch.no_grad()
def codec_accuracy(codec: TokenCodec, vocabulary: Vocabulary, slots: torch.Tensor, *, quantised: bool = True) -> float:
    """Share of the tokens of slots [B, s] that are the nearest ones when read back, from bytes or from float32."""
    own = slots.to(vocabulary.embeddings.device)
    units = F.normalize(vocabulary.embeddings[own].float(), dim=-1)
    _, nearest = codec.read(codec.write(units) if quantised else codec.project(units), vocabulary)
    return float((nearest == own).float().mean())


def _draw(
    tokens: torch.Tensor, stride: int, settings: CodecSettings, vocabulary: int, generator: torch.Generator
) -> torch.Tensor:
    starts = torch.randint(len(tokens) - stride, (settings.batch_size,), generator=generator)
    slots = tokens[starts[:, None] + torch.arange(stride)]
    replaced = torch.rand(slots.shape, generator=generator) < settings.random_share
    return torch.where(replaced, torch.randint(vocabulary, slots.shape, generator=generator), slots)


def _loss(codec: TokenCodec, units: torch.Tensor, slots: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    others = torch.randint(len(units), (_NEGATIVES,), generator=generator).to(units.device)
    candidates = torch.unique(torch.cat([slots.flatten(), others]))  # sorted
    vectors = codec.vectors(codec.write(units[slots])).flatten(0, 1)  # [B s, H]
    with torch.autocast(vectors.device.type, torch.bfloat16, enabled=multiplies_bfloat16(vectors.device)):
        logits = vectors @ units[candidates].T
    labels = torch.searchsorted(candidates, slots.flatten())
    return F.cross_entropy(logits.float() * codec.log_sharpness.exp(), labels)
