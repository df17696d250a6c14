"""The memory of the policy `joint`: Z is trained with theta, and its rows are the routing keys as well.

Router: every document of Z is scored for a query by attention with its hidden states. Each query token contributes a
vector; each document's slots, laid side by side, are its key; the score is linear attention summed over tokens,
score_i = tau * sum_t a_t <e_t, z_i>, so that all documents are scored in one matrix product. A token's vector has a
lexical part (fixed random signs of the hashed word, with a learned weight) and a contextual part (a learned map of the
backbone's hidden states, zero at the start: an untrained router is BM25 under random projection).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import nn

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.backbone import Backbone, positions
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.word_features import BUCKETS, feature_ids, inverse_document_frequency, sign_vectors
from zrag_core.settings import JointSettings


class JointRouter(nn.Module):
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
        lengths = torch.tensor([len(bag) for bag in bags], device=device)
        ids = torch.tensor([i for bag in bags for i in bag], dtype=torch.int64, device=device)  # [features]
        owner = torch.repeat_interleave(torch.arange(len(bags), device=device), lengths)
        weighted = torch.relu(self.term_weight[ids])[:, None] * sign_vectors(ids, self.key_width)
        vectors = torch.zeros(len(bags), self.key_width, device=device).index_add(0, owner, weighted)
        if hidden is not None:
            assert mask is not None
            pooled = (hidden.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # [B, H]
            # Divided by its width, the term grows as slowly under Adam in a wide model as in a narrow one; without
            # that it outgrows the lexical part within a hundred steps and takes a good start away.
            vectors = vectors + self.context(pooled) / hidden.shape[-1]
        return vectors

    def scores(self, queries: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Routing logits [B, N] of query vectors [B, m * d] against Z [N, m, d]."""
        return queries @ z.flatten(1).T * self.log_scale.exp()


class JointMemory(MemoryModel):
    """A memory that is trained together with theta; a document is one span of all its slots.

    Args:
        backbone: the LLM.
        settings: slots m, width d and the length of queries.
        n_documents: rows N of Z.
    """

    policy = "joint"
    memory_names = ("z",)

    def __init__(self, backbone: Backbone, settings: JointSettings, n_documents: int):
        super().__init__(backbone, settings.slots, settings.width)
        self.settings = settings
        self.z = nn.Parameter(torch.zeros(n_documents, settings.slots, settings.width, device=backbone.device))
        self.router = JointRouter(backbone.hidden_size, settings.slots * settings.width).to(backbone.device)

    @property
    def n_documents(self) -> int:
        """Rows N of Z."""
        return len(self.z)

    @property
    def shape(self) -> tuple[int, int, int]:
        """N, m and d."""
        return len(self.z), self.z.shape[1], self.z.shape[2]

    def document_slots(self, rows: Sequence[int] | torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Slots [B, m, d] of some documents (left out: all), which all belong to span 0, [B, m]."""
        chosen = self.z if rows is None else self.z[torch.as_tensor(rows, dtype=torch.int64, device=self.z.device)]
        return chosen, torch.zeros(chosen.shape[:2], dtype=torch.int16, device=chosen.device)

    def stored_memory(self) -> dict[str, torch.Tensor]:
        """Z as it is written to disk."""
        return {"z": self.z.detach().cpu().contiguous()}

    def restore_memory(self, stored: Mapping[str, torch.Tensor]) -> None:
        """Take Z from disk; the number of documents is that of this model."""
        with torch.no_grad():
            self.z.copy_(stored["z"])

    def stored_slots(self, row: int, first: int, last: int) -> bytes:
        """The bytes that keep slots `first` to `last` of a row on disk."""
        return self.z[row, first : last + 1].detach().float().cpu().contiguous().numpy().tobytes()

    @property
    def query_tokens(self) -> int:
        """Longer queries are cut, as in training."""
        return self.settings.query_tokens

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything trained besides theta's backbone part and Z."""
        return [*self.projection.parameters(), self.slot_position, self.markers, *self.router.parameters()]

    def query_vectors(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """Query vectors [B, m * d] of the router."""
        hidden, mask = self.query_states(queries)
        return self.router.queries([feature_ids(text) for text in texts], hidden, mask)

    def routing_scores(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """Routing logits [B, N] of B questions, given as text and as token ids."""
        return self.router.scores(self.query_vectors(texts, queries), self.z)

    def route(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """log P(document | query) [B, N], and zeros [B]: there is no null document."""
        scores = self.routing_scores(texts, queries).float()
        return torch.log_softmax(scores, dim=-1), scores.new_zeros(len(scores))

    def best_spans(self, queries: Sequence[Sequence[int]], z: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """Zeros [B, 1]: a document has one span."""
        return torch.zeros(len(z), 1, dtype=torch.long, device=z.device)

    def position_ids(self, used: torch.Tensor, mask: torch.Tensor, distance: int | None = None) -> torch.Tensor:
        """Position ids [B, p + T]: one behind the other; padding is not counted."""
        p = used.shape[1]
        slots = torch.arange(p, device=self.device)
        return torch.cat([slots.expand(len(used), -1), p + positions(mask)], 1)

    def text_units(self, text: str) -> list[list[int]]:
        """Token ids of the whole text, as one piece."""
        return [self.backbone.encode(text)]

    def sentences_per_span(self, n: int) -> int:
        """All of them."""
        return max(1, n)

    def without(self, removed: Mapping[int, Document]) -> Self:
        """A model with the same theta and no rows of these documents (theta may know them all the same)."""
        kept = [row for row in range(len(self.z)) if row not in removed]
        smaller = self.with_same_theta()
        smaller.z = nn.Parameter(self.z[kept].detach(), requires_grad=False)
        return smaller
