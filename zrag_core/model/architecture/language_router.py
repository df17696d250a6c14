"""The router of a pretrained LLM's memory: words, and what the LLM's own hidden states say a sentence means.

    score(q, i) = a <q_title, title_i> + b <q_text, text_i> + c max_s <m(q), m_is>

The first two terms compare words exactly. m is a unit vector: the LLM's hidden states of a few layers, averaged over
the tokens and mapped by one matrix that was fitted to a sentence encoder (Hinton et al. 2015, distillation), so that
nothing but the LLM is asked at query time. m_is is the key of sentence s of document i, read with its title.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.model.architecture.document_keys import DocumentKeys

LAYERS = (0.2, 0.4)
"""Depths whose hidden states are averaged, as shares of the LLM's layers."""

ABSENT = -1.0
"""What a document without a sentence has as its likeness: no other can have less."""


class LanguageRouter(nn.Module):
    """Scales of the terms and the map to keys; fitted with the skill, never on a corpus.

    Args:
        features: width of the averaged hidden states of all `LAYERS` together.
        key_width: numbers k of a key.
    """

    def __init__(self, features: int, key_width: int):
        super().__init__()
        self.key = nn.Linear(features, key_width)
        # Of the standardised features; they differ by orders of magnitude.
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        # Word scores lie between 0 and about 60, a key's between -1 and 1: all start as a few nats.
        self.log_scale = nn.Parameter(torch.tensor([-1.0, -1.0, 2.3]))
        self.null_score = nn.Parameter(torch.zeros(()))

    mean: torch.Tensor
    deviation: torch.Tensor

    def keys(self, features: torch.Tensor) -> torch.Tensor:
        """Unit vectors [B, k] of averaged hidden states [B, F]."""
        return F.normalize(self.key((features.float() - self.mean) / self.deviation), dim=-1)

    def scores(self, texts: Sequence[str], meanings: torch.Tensor, keys: DocumentKeys) -> torch.Tensor:
        """Routing logits [B, N + 1] of B queries; the last column is the null document.

        Args:
            texts: the queries.
            meanings: their unit vectors [B, k].
            keys: of the N documents.
        """
        total = keys.scores(texts, meanings, self.log_scale.exp())
        return torch.cat([total, self.null_score.expand(len(texts), 1)], 1)
