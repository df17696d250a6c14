"""The router of the separated policy: every document scored by its lexical key and by its slots.

score(q, i) = a <q_title, title_i> + b <q_text, text_i> + c sum_t max_j <q_t, k_ij> / sqrt(T)

The first two terms compare hashed words, weighted by how rare they are in the memory; the third is late interaction
(Khattab & Zaharia 2020, ColBERT) between the hidden states of the query's T tokens and keys made from the document's
slots. A null document with a score of its own stands for "not in memory".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.model.features import feature_ids, sign_vectors
from zrag_core.model.lexical import title_ids

_CHUNK = 1 << 24  # similarities held at once


class SlotRouter(nn.Module):
    """Query side and slot keys; trained with the skill, never with a corpus.

    Args:
        hidden_size: width H of the backbone's hidden states.
        width: numbers d per slot.
        key_width: numbers of a slot's key.
        title_width, text_width: numbers of the two lexical keys.
    """

    def __init__(self, hidden_size: int, width: int, key_width: int, title_width: int, text_width: int):
        super().__init__()
        self.title_width, self.text_width = title_width, text_width
        self.query = nn.Linear(hidden_size, key_width, bias=False)
        self.key = nn.Linear(width, key_width, bias=False)
        # Word scores lie between 0 and about 60, a mean similarity between 0 and 1: both start as a few nats.
        self.log_scale = nn.Parameter(torch.tensor([-1.0, -2.3, 1.0]))
        self.null_score = nn.Parameter(torch.zeros(()))

    def scores(
        self,
        texts: Sequence[str],
        hidden: torch.Tensor,
        mask: torch.Tensor,
        *,
        z: torch.Tensor,
        lexical: torch.Tensor,
        idf: torch.Tensor,
    ) -> torch.Tensor:
        """Routing logits [B, N + 1] of B queries; the last column is the null document.

        Args:
            texts: the queries.
            hidden: [B, T, H] hidden states of their tokens.
            mask: [B, T], 1 at real tokens; padding contributes nothing.
            z: [N, m, d] slots.
            lexical: [N, title_width + text_width] lexical keys.
            idf: [BUCKETS] weights of features in this memory.
        """
        parts = self.parts(texts, hidden, mask, z=z, lexical=lexical, idf=idf)
        total = (self.log_scale.exp()[:, None, None] * parts).sum(0)
        return torch.cat([total, self.null_score.expand(len(texts), 1)], 1)

    def parts(
        self,
        texts: Sequence[str],
        hidden: torch.Tensor,
        mask: torch.Tensor,
        *,
        z: torch.Tensor,
        lexical: torch.Tensor,
        idf: torch.Tensor,
    ) -> torch.Tensor:
        """The three terms of the score before they are scaled, [3, B, N]; arguments as in `scores`."""
        titles, bodies = lexical.split((self.title_width, self.text_width), dim=1)
        title = _weighted_sketch([title_ids(text) for text in texts], idf, self.title_width) @ titles.T
        text = _weighted_sketch([feature_ids(text) for text in texts], idf, self.text_width) @ bodies.T
        queries = F.normalize(self.query(hidden.float()), dim=-1) * mask[..., None]
        length = mask.sum(1, keepdim=True).clamp(min=1)  # a query without a token says nothing, and is no error
        return torch.stack([title, text, _late_interaction(queries, self.slot_keys(z)) / length.sqrt()])

    def slot_keys(self, z: torch.Tensor) -> torch.Tensor:
        """Unit keys [N, m, key_width] of slots [N, m, d]; linear in z up to length."""
        return F.normalize(self.key(z), dim=-1)

    def unseen_directions(self) -> torch.Tensor:
        """Projection [d, d] onto the changes of a slot that its key does not see."""
        weight = self.key.weight.detach().double()
        identity = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        return (identity - torch.linalg.pinv(weight) @ weight).float()


def inverse_frequency(frequency: torch.Tensor, n_documents: int) -> torch.Tensor:
    """BM25's idf [BUCKETS] from document counts [BUCKETS]."""
    counts = frequency.float()
    return torch.log1p((n_documents - counts + 0.5).clamp(min=0.5) / (counts + 0.5))


def _weighted_sketch(bags: Sequence[Sequence[int]], idf: torch.Tensor, width: int) -> torch.Tensor:
    lengths = torch.tensor([len(bag) for bag in bags], device=idf.device)
    ids = torch.tensor([i for bag in bags for i in bag], dtype=torch.int64, device=idf.device)
    owner = torch.repeat_interleave(torch.arange(len(bags), device=idf.device), lengths)
    vectors = torch.zeros(len(bags), width, device=idf.device)
    return vectors.index_add(0, owner, idf[ids][:, None] * sign_vectors(ids, width))


def _late_interaction(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Sum over tokens of the largest similarity with any slot: [B, T, D] and [N, m, D] to [B, N]."""
    b, t, d = queries.shape
    n, m, _ = keys.shape
    flat = queries.reshape(b * t, d)
    step = max(1, _CHUNK // max(1, b * t * m))
    parts = [
        (flat @ keys[start : start + step].reshape(-1, d).T).reshape(b, t, -1, m).amax(-1).sum(1)
        for start in range(0, n, step)
    ]
    return torch.cat(parts, 1) if parts else flat.new_zeros(b, 0)
