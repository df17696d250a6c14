"""The codec: `stride` neighbouring tokens become one slot of d whole numbers, and the LLM reads the tokens back.

    slot   = quantise(D x + d(x)),  x the unit embeddings of the slot's tokens, side by side
    vectors = U slot + u(slot),     one vector for each token, near its unit embedding
    read   = the mixture of the nearest token embeddings: what the LLM gets as its input

It starts as the identity of a linear map: D has orthonormal rows and U is its transpose, so that with d = stride x H
the LLM reads slots as it reads the text. What is lost at fewer numbers, the two small networks d and u and, behind
them, the LLM's own knowledge of language make up for. Quantised like this a slot is d bytes and one scale.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

LEVELS = 127
"""A number of a slot is one of -127 .. 127 times the slot's scale."""

_LEAST_SCALE = 2.0**-23  # in half precision the same
_NEAREST = 16  # token embeddings that a vector is a mixture of
_SHARPNESS = 30.0  # of the mixture, at the start; cosines of different tokens differ by a few tenths
_LEAST_LENGTH = 1e-6  # tokens that were never trained may have an embedding of zeros
_CHUNK = 512  # vectors compared with the vocabulary at once; of SmolLM2's 49 thousand tokens, 50 MB
_BLOCK = 128  # neighbouring tokens of which at first only the best likeness counts
_SHORTLIST = 24  # tokens whose likeness is computed again in float32


class Vocabulary:
    """An LLM's token embeddings [V, H], which stay: what vectors are compared with."""

    def __init__(self, embeddings: torch.Tensor):
        self.embeddings = embeddings
        self.lengths = embeddings.float().norm(dim=-1).clamp(min=_LEAST_LENGTH)
        self._units = (embeddings.float() / self.lengths[:, None]).to(embeddings.dtype)

    def nearest(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The `_NEAREST` best dot products of vectors [P, H] with the unit embeddings, [P, k], and their tokens [P, k].

        Selecting among the blocks' maxima is exact: the blocks of the k best maxima hold the k best tokens.
        """
        likeness = vectors @ self._units.T  # [P, V]
        if extra := -likeness.shape[1] % _BLOCK:
            likeness = F.pad(likeness, (0, extra), value=-torch.inf)
        blocks = likeness.unflatten(1, (-1, _BLOCK))  # [P, V / block, block]
        n = min(_SHORTLIST, blocks.shape[1])
        best = blocks.amax(-1).topk(n, -1).indices  # [P, n]
        among = blocks.gather(1, best[..., None].expand(-1, -1, _BLOCK)).flatten(1)
        places = among.topk(min(_SHORTLIST, self._units.shape[0]), -1).indices
        tokens = best.gather(1, places // _BLOCK) * _BLOCK + places % _BLOCK  # [P, s]
        exact = torch.einsum("ph,psh->ps", vectors.float(), self.embeddings[tokens].float()) / self.lengths[tokens]
        values, order = exact.topk(min(_NEAREST, exact.shape[1]), -1)
        return values, tokens.gather(1, order)


class TokenCodec(nn.Module):
    """Tokens to slots and back.

    Args:
        hidden_size: width H of the token embeddings.
        width: numbers d per slot.
        stride: tokens s per slot.
        inner: width of the two small networks.
    """

    def __init__(self, hidden_size: int, width: int, stride: int, inner: int):
        super().__init__()
        self.stride, self.hidden_size = stride, hidden_size
        whole = stride * hidden_size
        self.down = nn.Linear(whole, width, bias=False)
        self.up = nn.Linear(width, whole, bias=False)
        self.down_hidden, self.down_more = nn.Linear(whole, inner), nn.Linear(inner, width, bias=False)
        self.up_hidden, self.up_more = nn.Linear(width, inner), nn.Linear(inner, whole, bias=False)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(_SHARPNESS)))
        nn.init.orthogonal_(self.down.weight)
        with torch.no_grad():
            self.up.weight.copy_(self.down.weight.T)
        nn.init.zeros_(self.down_more.weight)
        nn.init.zeros_(self.up_more.weight)

    def write(self, units: torch.Tensor) -> torch.Tensor:
        """Slots [..., d] of unit embeddings [..., s, H], on the grid of `quantise`."""
        return quantise(self.project(units))

    def project(self, units: torch.Tensor) -> torch.Tensor:
        """Slots [..., d] before they are rounded."""
        x = units.flatten(-2)  # [..., s H]
        slots: torch.Tensor = self.down(x) + self.down_more(F.gelu(self.down_hidden(x)))
        return slots

    def vectors(self, slots: torch.Tensor) -> torch.Tensor:
        """What slots [..., d] say of their tokens: [..., s, H], near the tokens' unit embeddings."""
        x = self.up(slots) + self.up_more(F.gelu(self.up_hidden(slots)))
        vectors: torch.Tensor = x.unflatten(-1, (self.stride, self.hidden_size))
        return vectors

    def read(self, slots: torch.Tensor, vocabulary: Vocabulary) -> tuple[torch.Tensor, torch.Tensor]:
        """Input vectors [..., s, H] for the LLM, and the nearest tokens [..., s].

        Args:
            slots: [..., d].
            vocabulary: of the LLM.
        """
        vectors, embeddings = self.vectors(slots), vocabulary.embeddings
        flat = vectors.reshape(-1, self.hidden_size).to(embeddings.dtype)
        mixed, nearest = [], []
        for part in flat.split(_CHUNK):
            likeness, tokens = vocabulary.nearest(part)
            weights = torch.softmax(likeness * self.log_sharpness.exp(), -1)
            mixed.append(torch.einsum("pk,pkh->ph", weights.to(embeddings.dtype), embeddings[tokens]))
            nearest.append(tokens[:, 0])
        shape = vectors.shape[:-1]
        return torch.cat(mixed).view(*shape, -1), torch.cat(nearest).view(shape)


def quantise(slots: torch.Tensor) -> torch.Tensor:
    """Slots [..., d] rounded to whole multiples of their scale; the gradient passes as if they were not."""
    scale = slot_scales(slots)
    return (slot_numbers(slots) * scale).detach() + (slots - slots.detach())


def slot_numbers(slots: torch.Tensor) -> torch.Tensor:
    """The whole numbers [..., d], of their scale each, that slots are rounded to."""
    # Scales below what half precision tells apart may be too small for the largest number.
    return (slots / slot_scales(slots)).round().clamp(-LEVELS, LEVELS)


def slot_scales(slots: torch.Tensor) -> torch.Tensor:
    """The scale [..., 1] of each slot: its largest number is 127 of it, in half precision as it is stored."""
    largest = slots.detach().abs().amax(-1, keepdim=True)
    return (largest / LEVELS).half().float().clamp(min=_LEAST_SCALE)
