"""How much of a text a frozen LLM can read from a few vectors that were optimised for this text alone.

After Kuratov et al. 2025 (arXiv 2502.13063), with vectors narrower than the LLM's hidden states: a fixed random
projection, which all documents share, makes them as wide. The shape of Z in the reference, 4 x 256, without any
learning of theta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from zrag_core.model.architecture.attention import float32_attention
from zrag_core.model.architecture.backbone import Backbone

_LR = 0.03
_BATCH = 10  # documents read at once


@dataclass(frozen=True, slots=True)
class FixedSlots:
    """Shares of N documents' first tokens, teacher-forced except for `greedy`.

    Attributes:
        own: that are the likeliest ones behind the document's own vectors.
        other: behind those of the next document.
        nothing: behind no vectors.
        greedy: that come before the first mistake when the LLM continues from the vectors by itself.
    """

    own: float
    other: float
    nothing: float
    greedy: float


def optimise_slots(
    backbone: Backbone,
    texts: torch.Tensor,
    *,
    slots: int,
    width: int,
    steps: int,
    log: Callable[[str], None],
) -> FixedSlots:
    """Optimise [N, slots, width] numbers, theta frozen, so that each of N texts follows them.

    Args:
        texts: [N, T] token ids.
    """
    generator = torch.Generator().manual_seed(0)
    embeddings = backbone.token_embeddings.float()
    scale = embeddings.norm(dim=-1).mean()
    square = torch.linalg.qr(torch.randn(embeddings.shape[1], embeddings.shape[1], generator=generator)).Q
    projection = (square[:width] * scale).to(backbone.device)  # [d, H], rows as long as a token's embedding
    start = torch.randn(len(texts), slots, width, generator=generator) / width**0.5
    z = torch.nn.Parameter(start.to(backbone.device))
    optimizer = torch.optim.Adam([z], lr=_LR)
    groups = torch.arange(len(texts)).split(_BATCH)
    with float32_attention(backbone, compiled=False):
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = _LR * (1 - step / steps)
            total = 0.0
            optimizer.zero_grad()
            for rows in groups:
                logits = _logits(backbone, z[rows] @ projection, texts[rows])
                loss = F.cross_entropy(logits.flatten(0, 1), texts[rows].flatten(), reduction="sum") / texts.numel()
                loss.backward(inputs=[z])
                total += loss.item()
            optimizer.step()
            if step % 20 == 0:
                log(f"{slots} x {width} for {len(texts)} texts: step {step} of {steps}, {total:.3f} nats per token")
    with torch.no_grad():
        own = z.detach() @ projection
        right, other, nothing = (_right(backbone, vectors, texts) for vectors in (own, own.roll(1, 0), own[:, :0]))
    # Up to its first mistake greedy decoding reads what teacher forcing reads.
    found = (right, other, nothing, right.cumprod(-1))
    return FixedSlots(*(float(share.mean()) for share in found))


def _logits(backbone: Backbone, vectors: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Logits [B, T, V] of texts behind vectors [B, m, H]; where there are none, behind a token that begins a text."""
    if not vectors.shape[1]:
        vectors = backbone.embed(torch.full((len(texts), 1), backbone.eos_id, device=texts.device))
    embeds = torch.cat([vectors.to(backbone.lm.dtype), backbone.embed(texts[:, :-1])], 1)
    mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
    return backbone.logits(backbone.hidden(embeds, mask)[:, vectors.shape[1] - 1 :])


def _right(backbone: Backbone, vectors: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """[N, T], 1 where the likeliest token behind N texts' vectors [N, m, H] is the text's own."""
    parts = zip(vectors.split(_BATCH), texts.split(_BATCH), strict=True)
    return torch.cat([_logits(backbone, own, ids).argmax(-1) == ids for own, ids in parts]).float()
