"""The router of the separated policy: documents scored by their lexical keys and slots, and spans by their slots.

    document:  score(q, i) = a <q_title, title_i> + b <q_text, text_i> + c max_s span(q, i, s)
    span:      span(q, i, s) = <q, k_is>, with k_is the mean of the keys of the span's slots

The first two terms compare hashed words, weighted by how rare they are in the memory. The third is attention from the
query to the slots, which also tells which span of a routed document is read. A null document, and a null span in every
document, have scores of their own: they stand for "not in memory".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from zrag_core.bm25_weights import absence_odds
from zrag_core.model.architecture.lexical_keys import title_ids
from zrag_core.model.architecture.word_features import feature_ids, sign_vectors

_CHUNK = 1 << 24  # similarities held at once
_ABSENT = -1e4  # score of a span that a document does not have; finite, since a document may have none at all


@dataclass(frozen=True, slots=True)
class RoutingKeys:
    """What N documents are routed by.

    Attributes:
        z: [N, m, d] slots.
        spans: [N, m] span of each slot.
        lexical: [N, title_width + text_width] lexical keys.
        idf: [BUCKETS] weights of features among these documents.
    """

    z: torch.Tensor
    spans: torch.Tensor
    lexical: torch.Tensor
    idf: torch.Tensor


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
        self.token_weight = nn.Linear(hidden_size, 1, bias=False)
        self.query = nn.Linear(hidden_size, key_width, bias=False)
        self.key = nn.Linear(width, key_width, bias=False)
        # Word scores lie between 0 and about 60, a span's score around 0: all start as a few nats.
        self.log_scale = nn.Parameter(torch.tensor([-1.0, -2.3, -1.0]))
        self.null_score = nn.Parameter(torch.zeros(()))
        self.null_span = nn.Parameter(torch.zeros(()))

    def scores(self, texts: Sequence[str], hidden: torch.Tensor, mask: torch.Tensor, keys: RoutingKeys) -> torch.Tensor:
        """Routing logits [B, N + 1] of B queries; the last column is the null document.

        Args:
            texts: the queries.
            hidden: [B, T, H] hidden states of their tokens.
            mask: [B, T], 1 at real tokens; padding contributes nothing.
            keys: of the N documents.
        """
        total = self.combine(self.terms(texts, hidden, mask, keys))  # [B, N]
        return torch.cat([total, self.null_score.expand(len(texts), 1)], 1)

    def combine(self, terms: torch.Tensor) -> torch.Tensor:
        """Routing logits [B, N] of the three terms [3, B, N]."""
        return (self.log_scale.exp()[:, None, None] * terms).sum(0)

    def terms(self, texts: Sequence[str], hidden: torch.Tensor, mask: torch.Tensor, keys: RoutingKeys) -> torch.Tensor:
        """The three terms of the score before they are scaled (title, text, span), [3, B, N]; as in `scores`."""
        titles, bodies = keys.lexical.split((self.title_width, self.text_width), dim=1)
        title = _weighted_sketch([title_ids(text) for text in texts], keys.idf, self.title_width) @ titles.T
        text = _weighted_sketch([feature_ids(text) for text in texts], keys.idf, self.text_width) @ bodies.T
        span_keys = self.span_keys(keys.z, keys.spans)  # [N, m, key_width]
        span = _best_span(self.query_vectors(hidden, mask), span_keys, _absence(keys.spans))
        return torch.stack([title, text, span])

    def span_logits(
        self, hidden: torch.Tensor, mask: torch.Tensor, z: torch.Tensor, spans: torch.Tensor
    ) -> torch.Tensor:
        """Logits [B, m + 1] over the spans of one document for each of B queries; the last is the null span.

        Args:
            hidden, mask: of the queries' tokens, as in `scores`.
            z, spans: [B, m, d] and [B, m], the documents in which they look.
        """
        scores = torch.einsum("bd,bsd->bs", self.query_vectors(hidden, mask), self.span_keys(z, spans))
        return torch.cat([scores + _absence(spans), self.null_span.expand(len(scores), 1)], 1)

    def query_vectors(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Query vectors [B, key_width]: the tokens' hidden states pooled by learned weights and projected."""
        weights = self.token_weight(hidden.float())[..., 0].masked_fill(mask == 0, _ABSENT)  # [B, T]
        # Where no token is, the softmax is uniform over padding, which says nothing.
        pooled = torch.einsum("bt,bth->bh", torch.softmax(weights, -1) * mask, hidden.float())  # [B, H]
        vectors: torch.Tensor = self.query(pooled) / self.query.weight.shape[0] ** 0.5
        return vectors

    def span_keys(self, z: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """Keys [N, m, key_width], linear in z: number s of document i at [i, s], zero where it has fewer spans."""
        members = _members(spans).to(z.dtype)  # [N, m, m]
        shares = members / members.sum(1, keepdim=True).clamp(min=1)
        return torch.einsum("njs,njd->nsd", shares, self.key(z))

    def unseen_directions(self) -> torch.Tensor:
        """Projection [d, d] onto the changes of a slot that its key does not see."""
        weight = self.key.weight.detach().double()
        identity = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        projection: torch.Tensor = (identity - torch.linalg.pinv(weight) @ weight).float()
        return projection


def inverse_frequency(frequency: torch.Tensor, n_documents: int) -> torch.Tensor:
    """BM25's idf [BUCKETS] from document counts [BUCKETS], none above `n_documents`."""
    return torch.log1p(absence_odds(frequency.float(), n_documents))


def _weighted_sketch(bags: Sequence[Sequence[int]], idf: torch.Tensor, width: int) -> torch.Tensor:
    """Sums [B, width] of the sign vectors of each bag's features, weighted by idf [BUCKETS]."""
    lengths = torch.tensor([len(bag) for bag in bags], device=idf.device)
    ids = torch.tensor([i for bag in bags for i in bag], dtype=torch.int64, device=idf.device)
    owner = torch.repeat_interleave(torch.arange(len(bags), device=idf.device), lengths)
    vectors = torch.zeros(len(bags), width, device=idf.device)
    return vectors.index_add(0, owner, idf[ids][:, None] * sign_vectors(ids, width))


def _members(spans: torch.Tensor) -> torch.Tensor:
    """Whether slot j (second) belongs to span s (third): bool [N, m, m]."""
    numbers = torch.arange(spans.shape[1], device=spans.device)
    return spans[..., None] == numbers


def _absence(spans: torch.Tensor) -> torch.Tensor:
    """[N, m], 0 where a document has a span of this number and a very low score where it has not."""
    return _ABSENT * (~_members(spans).any(1)).float()


def _best_span(queries: torch.Tensor, keys: torch.Tensor, absence: torch.Tensor) -> torch.Tensor:
    """Best score of any span of each document: [B, D], [N, m, D] and [N, m] to [B, N]."""
    n, m, d = keys.shape
    step = max(1, _CHUNK // max(1, len(queries) * m))
    parts = [
        ((queries @ keys[i : i + step].reshape(-1, d).T).view(len(queries), -1, m) + absence[i : i + step]).amax(-1)
        for i in range(0, n, step)
    ]
    return torch.cat(parts, 1) if parts else queries.new_zeros(len(queries), 0)
