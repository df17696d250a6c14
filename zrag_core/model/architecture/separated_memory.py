"""The memory of the policy `separated`: an encoder writes Z, routing compares keys of documents and slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import nn

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.encoder import Encoder, Sentences, sentences_per_span
from zrag_core.model.architecture.lexical_keys import document_frequency, lexical_keys
from zrag_core.model.architecture.memory_rows import Rows
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.sentence_features import CONFIDENCE_FEATURES, plain_weights
from zrag_core.model.architecture.slot_router import RoutingKeys, SlotRouter, inverse_frequency
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.architecture.word_features import BUCKETS
from zrag_core.settings import SeparatedSettings

ORIGIN = 512
"""Position id of the first token of an evidence; what comes before counts down from it."""

QUERY_TOKENS = 128
"""Longer queries are cut when a memory is asked."""


class SeparatedMemory(MemoryModel):
    """A memory that a frozen theta writes and reads.

    Routing goes on to a *span* of a document (a sentence with slots of its own), whose slots are the prefix: position
    ids are such that the evidence's tokens stand beside the slots that keep them.

    Args:
        backbone: the LLM.
        settings: slots m, width d and the widths of the keys.
        n_documents: rows N of Z.

    Attributes:
        everyday: a second set of judging weights by name, for documents by people; saved with the skill, not used here.
    """

    policy = "separated"
    confidence_features: ClassVar[tuple[str, ...]] = CONFIDENCE_FEATURES
    fits_fewer_slots: ClassVar[bool] = True
    """Whether a document can be written into fewer slots than it needs, each fuller then."""
    memory_names: ClassVar[tuple[str, ...]] = ("z", "spans", "lexical", "frequency")

    lexical: torch.Tensor  # [N, title_width + text_width]
    frequency: torch.Tensor  # [BUCKETS], documents in memory that hold each feature
    ranking: torch.Tensor  # [F], weights of the sentence features
    confidence: torch.Tensor  # [G + 1], weights of the question features and the bias; zero before they were fitted

    def __init__(self, backbone: Backbone, settings: SeparatedSettings, n_documents: int):
        super().__init__(backbone, self._shape(settings, n_documents))
        self.settings = settings
        self.everyday: Mapping[str, torch.Tensor] = {}
        device = backbone.device
        self._make_writing_heads()
        self.register_buffer("frequency", torch.zeros(BUCKETS, dtype=torch.int32, device=device))
        self.register_buffer("ranking", self.plain_ranking().to(device))
        self.register_buffer("confidence", torch.zeros(len(self.confidence_features) + 1, device=device))

    def _shape(self, settings: SeparatedSettings, n_documents: int) -> tuple[int, int, int]:
        return n_documents, settings.slots, settings.width

    def _make_writing_heads(self) -> None:
        """The encoder, the router and the rows that they fill."""
        settings, hidden, device = self.settings, self.backbone.hidden_size, self.backbone.device
        m, d, scale = settings.slots, settings.width, self.embedding_scale
        self.encoder = Encoder(hidden, m, d, settings.stride, settings.window, scale).to(device)
        # What is written is read back: the projection starts as the (scaled) transpose of the encoder's.
        with torch.no_grad():
            self.projection.weight.copy_(scale * self.encoder.down.weight.T)
        keys = (settings.key_width, settings.title_width, settings.text_width)
        self.router: Any = SlotRouter(hidden, d, *keys).to(device)
        width = settings.title_width + settings.text_width
        self.register_buffer("lexical", torch.zeros(len(self.z), width, device=device))

    def plain_ranking(self) -> torch.Tensor:
        """Weights of the sentence features before they were fitted."""
        return plain_weights(1.0)

    @property
    def query_tokens(self) -> int:
        """Longer queries are cut."""
        return QUERY_TOKENS

    @property
    def idf(self) -> torch.Tensor:
        """How rare each feature is in this memory, [BUCKETS]."""
        return inverse_frequency(self.frequency, len(self.z))

    @property
    def routing_keys(self) -> Any:
        """What the documents in memory are routed by."""
        return RoutingKeys(self.z, self.spans, self.lexical, self.idf)

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything trained besides theta's backbone part and Z."""
        shared = [*self.projection.parameters(), self.slot_position, self.markers]
        return [*shared, *self.router.parameters(), *self.encoder.parameters()]

    def confidence_weights(self) -> torch.Tensor | None:
        """Weights [G + 1] of P(answerable); None before they were fitted."""
        return self.confidence.cpu() if self.confidence.any() else None

    # --- writing ----------------------------------------------------------------------------------

    def encode(
        self, documents: Sequence[Sentences], stride: int | None = None, slots: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """z [B, slots, d] and spans [B, slots] of documents given as sentences."""
        written: tuple[torch.Tensor, torch.Tensor] = self.encoder(self.backbone, documents, stride, slots)
        return written

    def remember(self, documents: Sequence[Document], z: torch.Tensor, spans: torch.Tensor) -> None:
        """Make `documents`, written as slots `z` [N, m, d] with `spans` [N, m], the memory."""
        rows = {"z": z, "spans": spans, **self.document_rows(documents)}
        self.hold(rows, document_frequency(documents))

    def document_rows(self, documents: Sequence[Document]) -> Rows:
        """What routing keeps of documents, by name: rows that depend on their own document alone."""
        return {"lexical": lexical_keys(documents, self.settings.title_width, self.settings.text_width)}

    def stored_words(self, row: int) -> tuple[bytes, bytes]:
        """The bytes that keep the words of a row's title and of its text on disk."""
        key, width = self.lexical[row].detach().float().cpu(), self.settings.title_width
        return key[:width].contiguous().numpy().tobytes(), key[width:].contiguous().numpy().tobytes()

    @property
    def rows(self) -> Rows:
        """The tensors of the memory that have a row for each document, by name."""
        return {name: getattr(self, name).detach() for name in self.memory_names if name != "frequency"}

    def hold(self, rows: Mapping[str, torch.Tensor], frequency: torch.Tensor) -> None:
        """Make these rows and document counts the memory."""
        for name, tensor in rows.items():
            moved = tensor.detach().to(self.device)
            if name == "z":
                self.z = nn.Parameter(moved, requires_grad=False)
            else:
                setattr(self, name, moved.to(torch.int16) if name == "spans" else moved)
        self.frequency = frequency.to(self.device)

    def without(self, removed: Mapping[int, Document]) -> Self:
        """A model with the same theta whose memory is as if the documents of these rows had never been written."""
        kept = [row for row in range(len(self.z)) if row not in removed]
        counts = document_frequency(list(removed.values())).to(self.device)
        smaller = self.with_same_theta()
        smaller.hold({name: tensor[kept] for name, tensor in self.rows.items()}, self.frequency - counts)
        return smaller

    @property
    def key_numbers(self) -> int:
        """Numbers of a document's routing keys, on average."""
        return self.settings.title_width + self.settings.text_width

    @property
    def numbers_per_document(self) -> int:
        """Numbers that a document takes, slots and keys, on average."""
        return self.z.shape[1] * self.z.shape[2] + self.key_numbers

    def slots_for(self, documents: Sequence[Sentences]) -> int:
        """m of a memory of documents given as sentences."""
        return self.settings.slots

    def text_units(self, text: str) -> list[list[int]]:
        """Token ids of a text's sentences."""
        return sentence_ids(self.backbone, text)

    def unseen_directions(self) -> torch.Tensor:
        """Projection [d, d] onto the changes of a slot that routing does not see."""
        directions: torch.Tensor = self.router.unseen_directions()
        return directions

    def settle(self, z: torch.Tensor) -> torch.Tensor:
        """Refined slots as the memory can keep them."""
        return z

    def sentences_per_span(self, n: int) -> int:
        """How many of a document's n neighbouring sentences share a span, at least one."""
        return sentences_per_span(n, self.settings.slots)

    # --- routing ----------------------------------------------------------------------------------

    def routing_scores(self, texts: Sequence[str], queries: Sequence[Sequence[int]], keys: Any = None) -> torch.Tensor:
        """Routing logits [B, N + 1] of B questions, given as text and as token ids; the last one is the null document.

        Args:
            keys: of N documents; left out: those in memory.
        """
        hidden, mask = self.query_states(queries)
        scores: torch.Tensor = self.router.scores(texts, hidden[:, 1:], mask[:, 1:], keys or self.routing_keys)
        return scores

    def routing_terms(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """The router's terms for the documents in memory before they are scaled, [3, B, N]."""
        hidden, mask = self.query_states(queries)
        terms: torch.Tensor = self.router.terms(texts, hidden[:, 1:], mask[:, 1:], self.routing_keys)
        return terms

    def route(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """log P(document | query) [B, N] and the probability [B] of the null document against the best one."""
        scores = self.routing_scores(texts, queries).float()
        documents, null = scores[:, :-1], scores[:, -1]
        # Against the best document and not against all of them: so it does not fall as the memory grows.
        null_p = torch.softmax(torch.stack([documents.amax(1), null]), dim=0)[1]
        return torch.log_softmax(documents, dim=-1), null_p

    def span_logits(self, queries: Sequence[Sequence[int]], z: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """Logits [B, m + 1] of the spans of one document for each of B queries; the last is the null span.

        Args:
            queries: token ids.
            z, spans: [B, m, d] and [B, m], the documents in which they look.
        """
        hidden, mask = self.query_states(queries)
        logits: torch.Tensor = self.router.span_logits(hidden[:, 1:], mask[:, 1:], z, spans)
        return logits

    def best_spans(self, queries: Sequence[Sequence[int]], z: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """The most probable span [B, 1] of each document, null spans aside."""
        return self.span_logits(queries, z, spans)[:, :-1].argmax(1, keepdim=True)

    def position_ids(self, used: torch.Tensor, mask: torch.Tensor, distance: int | None = None) -> torch.Tensor:
        """Position ids [B, p + T]: evidence token t stands at ORIGIN + t, beside the slot that keeps it.

        Query and marker stand before ORIGIN; slots stand a stride apart, or `distance` where it is given.
        """
        slots = torch.arange(used.shape[1], device=self.device)
        step = self.settings.stride if distance is None else distance
        behind = ORIGIN - mask.shape[1] + torch.arange(mask.shape[1], device=self.device)
        return torch.cat([ORIGIN + slots * step, behind]).expand(len(used), -1)
