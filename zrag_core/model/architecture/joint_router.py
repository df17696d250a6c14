"""The router: every document of Z scored for a query by attention with its hidden states.

Each query token contributes a vector; each document's slots, laid side by side, are its key; the
score is linear attention summed over tokens, score_i = tau * sum_t a_t <e_t, z_i>, so that all
documents are scored in one matrix product. A token's vector has a lexical part (fixed random signs
of the hashed word, with a learned weight) and a contextual part (a learned map of the backbone's
hidden states, zero at the start: an untrained router is BM25 under random projection).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zrag_core.model.architecture.features import BUCKETS, inverse_document_frequency, sign_vectors


class Router(nn.Module):
    """Query side of the routing scores; the keys are Z itself.

    Args:
        hidden_size: width H of the backbone's hidden states.
        key_width: numbers per document, m * d.
    """

    def __init__(self, hidden_size: int, key_width: int):
        super().__init__()
        self.key_width = key_width
        self.term_weight = nn.Parameter(torch.ones(BUCKETS))
        self.context = nn.Linear(hidden_size, key_width, bias=False)
        nn.init.zeros_(self.context.weight)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def initialise(self, bags: Sequence[Sequence[int]]) -> None:
        """Set term weights to the idf of a corpus given as bags of feature ids."""
        with torch.no_grad():
            self.term_weight.copy_(inverse_document_frequency(bags).to(self.term_weight.device))

    def queries(
        self, bags: Sequence[Sequence[int]], hidden: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Query vectors.

        Args:
            bags: feature ids of each of the B queries.
            hidden: [B, T, H] hidden states of the queries' tokens, or None for the lexical part alone.
            mask: [B, T], 1 at real tokens; padding contributes nothing.

        Returns:
            [B, key_width], float32.
        """
        device = self.term_weight.device
        lengths = [len(bag) for bag in bags]
        ids = torch.tensor([i for bag in bags for i in bag], dtype=torch.int64, device=device)
        owner = torch.repeat_interleave(torch.arange(len(bags), device=device), torch.tensor(lengths, device=device))
        weighted = torch.relu(self.term_weight[ids])[:, None] * sign_vectors(ids, self.key_width)
        vectors = torch.zeros(len(bags), self.key_width, device=device).index_add(0, owner, weighted)
        if hidden is not None:
            assert mask is not None
            pooled = (hidden.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            # Divided by its width, the term grows as slowly under Adam in a wide model as in a narrow one; without
            # that it outgrows the lexical part within a hundred steps and takes a good start away.
            vectors = vectors + self.context(pooled) / hidden.shape[-1]
        return vectors

    def scores(self, queries: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Routing logits [B, N] of query vectors [B, m * d] against Z [N, m, d]."""
        return queries @ z.flatten(1).T * self.log_scale.exp()
