"""The encoder: the backbone reads a document with memory tokens in it, and their hidden states become its z.

Memory tokens (Ge et al. 2024, In-context Autoencoder, arXiv 2307.06945) stand at even distances inside the
document, as in Activation Beacon (Zhang et al. 2024, arXiv 2401.03462), and not all at its end: each one has a few
tokens of its own to keep, and everything before them as context. With all of them at the end, a model this small
has to learn first who keeps what.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zrag_core.model.backbone import Backbone


class Encoder(nn.Module):
    """Writes documents into slots with one forward pass of the backbone.

    Args:
        hidden_size: width H of the backbone's hidden states.
        slots: vectors m per document.
        width: numbers d per vector.
        stride: least number of tokens from one memory token to the next.
        scale: standard deviation of the backbone's token embeddings.
    """

    def __init__(self, hidden_size: int, slots: int, width: int, stride: int, scale: float):
        super().__init__()
        self.stride = stride
        self.memory_tokens = nn.Parameter(torch.randn(slots, hidden_size) * scale)
        self.down = nn.Linear(hidden_size, width)

    def forward(
        self,
        backbone: Backbone,
        documents: Sequence[Sequence[int]],
        stride: int | None = None,
        slots: int | None = None,
    ) -> torch.Tensor:
        """z [B, slots, d] of B documents given as token ids; each depends on its own document alone.

        Args:
            stride: another one than the encoder's own (in training).
            slots: fewer than the encoder's own (to see what they are worth).
        """
        stride = self.stride if stride is None else stride
        slots = len(self.memory_tokens) if slots is None else slots
        ids, memory, mask, where = interleave(documents, slots, stride, backbone.pad_id)
        device = self.memory_tokens.device
        memory = memory.to(device)
        tokens = self.memory_tokens[memory.clamp(min=0)].to(backbone.lm.dtype)
        embeds = torch.where((memory >= 0)[..., None], tokens, backbone.embed(ids.to(device)).to(backbone.lm.dtype))
        hidden = backbone.hidden(embeds, mask.to(device))
        index = where.to(device)[..., None].expand(-1, -1, hidden.shape[-1])
        return self.down(hidden.gather(1, index).to(self.down.weight.dtype))


def interleave(
    documents: Sequence[Sequence[int]], n: int, stride: int, fill: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Put `n` memory tokens into each document, one behind every `stride` tokens; what is left over stands at its end.

    A document of more than n * stride tokens has them at larger, even distances, so that the last one sees its end.

    Returns:
        ids [B, T] (`fill` at memory tokens and padding), memory [B, T] (number of the memory token there, or -1),
        mask [B, T] (1 where there is something), where [B, n] (positions of the memory tokens).
    """
    length = max(map(len, documents), default=0) + n
    ids = torch.full((len(documents), length), fill, dtype=torch.long)
    memory = torch.full((len(documents), length), -1, dtype=torch.long)
    mask = torch.zeros(len(documents), length, dtype=torch.long)
    order = torch.arange(n)
    where = torch.zeros(len(documents), n, dtype=torch.long)
    for row, document in enumerate(documents):
        used = len(document) + n
        distance = max(stride, -(-len(document) // n))
        where[row] = ((order + 1) * distance).clamp(max=len(document)) + order
        memory[row, where[row]] = order
        mask[row, :used] = 1
        ids[row, :used][memory[row, :used] < 0] = torch.tensor(document, dtype=torch.long)
    return ids, memory, mask, where
