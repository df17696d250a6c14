"""The router of the separated policy: documents scored by their words and slots, and spans by their slots.

    document:  score(q, i) = a <q_title, title_i> + b <q_text, text_i> + c max_s span(q, i, s)
    span:      span(q, i, s) = <q, k_is>, with k_is the mean of the keys of the span's slots

The first two terms compare words, weighted by how rare they are in the memory. The third is attention from the query
to the slots, which also tells which span of a routed document is read; the keys of spans are made when a document is
written, and kept in bytes. A null document, and a null span in every document, have scores of their own: they stand
for "not in memory".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from zrag_core.bm25_weights import absence_odds
from zrag_core.model.architecture.document_keys import DocumentKeys
from zrag_core.model.architecture.encoder import UNUSED
from zrag_core.model.architecture.row_table import RowTable, as_bytes

_CHUNK = 1 << 24  # similarities held at once
ABSENT = -1e4
"""Score of a span that a document does not have; finite, since a document may have none at all."""


class SlotRouter(nn.Module):
    """Query side and slot keys; trained with the skill, never with a corpus.

    Args:
        hidden_size: width H of the backbone's hidden states.
        width: numbers d per slot.
        key_width: numbers of a slot's key.
    """

    def __init__(self, hidden_size: int, width: int, key_width: int):
        super().__init__()
        self.token_weight = nn.Linear(hidden_size, 1, bias=False)
        self.query = nn.Linear(hidden_size, key_width, bias=False)
        self.key = nn.Linear(width, key_width, bias=False)
        # Word scores lie between 0 and about 60, a span's score around 0: all start as a few nats.
        self.log_scale = nn.Parameter(torch.tensor([-1.0, -2.3, -1.0]))
        self.null_score = nn.Parameter(torch.zeros(()))
        self.null_span = nn.Parameter(torch.zeros(()))

    def scores(self, texts: Sequence[str], queries: torch.Tensor, keys: DocumentKeys) -> torch.Tensor:
        """Routing logits [B, N + 1] of B queries; the last column is the null document.

        Args:
            texts: the queries.
            queries: their vectors [B, key_width].
            keys: of the N documents.
        """
        total = keys.scores(texts, queries, self.log_scale.exp())  # [B, N]
        return torch.cat([total, self.null_score.expand(len(texts), 1)], 1)

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
        weights = self.token_weight(hidden.float())[..., 0].masked_fill(mask == 0, ABSENT)  # [B, T]
        # Where no token is, the softmax is uniform over padding, which says nothing.
        pooled = torch.einsum("bt,bth->bh", torch.softmax(weights, -1) * mask, hidden.float())  # [B, H]
        vectors: torch.Tensor = self.query(pooled) / self.query.weight.shape[0] ** 0.5
        return vectors

    def span_keys(self, z: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """Keys [N, m, key_width], linear in z: number s of document i at [i, s], zero where it has fewer spans."""
        keys: torch.Tensor = self.key(z)
        counts = _slots_of_spans(spans)
        place = _span_places(spans)[..., None].expand_as(keys)
        sums = keys.new_zeros(len(z), spans.shape[1] + 1, keys.shape[2]).scatter_add(1, place, keys)
        return sums[:, :-1] / counts.clamp(min=1).to(keys.dtype)[..., None]

    def stored_keys(self, z: torch.Tensor, spans: torch.Tensor) -> RowTable:
        """The keys of the spans that documents z [N, m, d] have, as they are kept."""
        there = _slots_of_spans(spans) > 0
        return RowTable(as_bytes(self.span_keys(z.float(), spans)[there]), there.sum(1).int())

    def unseen_directions(self) -> torch.Tensor:
        """Projection [d, d] onto the changes of a slot that its key does not see."""
        weight = self.key.weight.detach().double()
        identity = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        projection: torch.Tensor = (identity - torch.linalg.pinv(weight) @ weight).float()
        return projection


def inverse_frequency(frequency: torch.Tensor, n_documents: int) -> torch.Tensor:
    """BM25's idf [BUCKETS] from document counts [BUCKETS], none above `n_documents`."""
    return torch.log1p(absence_odds(frequency.float(), n_documents))


def _span_places(spans: torch.Tensor) -> torch.Tensor:
    """The spans [N, m] as places; what belongs to none has a place behind them."""
    return spans.long().where(spans != UNUSED, spans.shape[1])


def _slots_of_spans(spans: torch.Tensor) -> torch.Tensor:
    """How many slots each span of a document has, [N, m]."""
    counts = torch.zeros(len(spans), spans.shape[1] + 1, dtype=torch.int64, device=spans.device)
    return counts.scatter_add(1, _span_places(spans), torch.ones_like(spans, dtype=torch.int64))[:, :-1]


def _absence(spans: torch.Tensor) -> torch.Tensor:
    """[N, m], 0 where a document has a span of this number and a very low score where it has not."""
    return ABSENT * (_slots_of_spans(spans) == 0).float()


@dataclass(frozen=True, slots=True)
class SlotKeys:
    """The keys of spans as slots have them, in training: `document_keys.SentenceKeys`.

    Attributes:
        keys: [N, m, key_width].
        spans: [N, m].
    """

    keys: torch.Tensor
    spans: torch.Tensor

    def best(self, queries: torch.Tensor) -> torch.Tensor:
        """Best score of any span of each document: [B, key_width] to [B, N]."""
        n, m, d = self.keys.shape
        step, absence = max(1, _CHUNK // max(1, len(queries) * m)), _absence(self.spans)
        parts = [
            ((queries @ self.keys[i : i + step].reshape(-1, d).T).view(len(queries), -1, m) + absence[i : i + step])
            for i in range(0, n, step)
        ]
        return torch.cat([part.amax(-1) for part in parts], 1) if parts else queries.new_zeros(len(queries), 0)
