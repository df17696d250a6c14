"""The memory of the policy `separated`: an encoder writes Z, routing compares keys of documents and slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import nn

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.document_keys import DocumentKeys
from zrag_core.model.architecture.document_words import document_frequency
from zrag_core.model.architecture.encoder import UNUSED, Encoder, Sentences, sentences_per_span
from zrag_core.model.architecture.memory_tables import (
    KEYS,
    SLOTS,
    TEXT_WORDS,
    TITLE_WORDS,
    MemoryTables,
    Tables,
)
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.row_table import NUMBERS, SCALE, RowTable, as_bytes
from zrag_core.model.architecture.sentence_features import CONFIDENCE_FEATURES, plain_weights
from zrag_core.model.architecture.slot_router import ABSENT, SlotRouter
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.architecture.token_codec import quantise
from zrag_core.model.architecture.word_features import BUCKETS
from zrag_core.model.architecture.word_lists import WORD, text_words, title_words
from zrag_core.settings import SeparatedSettings

_SPAN = "span"

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
        settings: slots m, width d and the width of the keys.

    Attributes:
        held: the documents in memory; none at first.
        everyday: a second set of judging weights by name, for documents by people; saved with the skill, not used here.
    """

    policy = "separated"
    confidence_features: ClassVar[tuple[str, ...]] = CONFIDENCE_FEATURES
    fits_fewer_slots: ClassVar[bool] = True
    """Whether a document can be written into fewer slots than it needs, each fuller then."""
    table_names: ClassVar[tuple[str, ...]] = (SLOTS, KEYS, TITLE_WORDS, TEXT_WORDS)
    absent_key: ClassVar[float] = ABSENT
    """What routing finds in a document without a sentence."""

    ranking: torch.Tensor  # [F], weights of the sentence features
    confidence: torch.Tensor  # [G + 1], weights of the question features and the bias; zero before they were fitted

    def __init__(self, backbone: Backbone, settings: SeparatedSettings):
        super().__init__(backbone, *self._slots_and_width(settings))
        self.settings = settings
        self.everyday: Mapping[str, torch.Tensor] = {}
        device = backbone.device
        self._make_writing_heads()
        self.register_buffer("ranking", self.plain_ranking().to(device))
        self.register_buffer("confidence", torch.zeros(len(self.confidence_features) + 1, device=device))
        self.hold(self._no_documents(), torch.zeros(BUCKETS, dtype=torch.int32))

    def _slots_and_width(self, settings: SeparatedSettings) -> tuple[int, int]:
        return settings.slots, settings.width

    def _no_documents(self) -> Tables:
        nothing = torch.zeros(0, 1, self._width, device=self.device)
        return self.tables_of((), nothing, torch.zeros(0, 1, dtype=torch.int16, device=self.device))

    @property
    def _width(self) -> int:
        return self.settings.width

    def _make_writing_heads(self) -> None:
        """The encoder and the router."""
        settings, hidden, device = self.settings, self.backbone.hidden_size, self.backbone.device
        m, d, scale = settings.slots, settings.width, self.embedding_scale
        self.encoder = Encoder(hidden, m, d, settings.stride, settings.window, scale).to(device)
        # What is written is read back: the projection starts as the (scaled) transpose of the encoder's.
        with torch.no_grad():
            self.projection.weight.copy_(scale * self.encoder.down.weight.T)
        self.router: Any = SlotRouter(hidden, d, settings.key_width).to(device)

    def plain_ranking(self) -> torch.Tensor:
        """Weights of the sentence features before they were fitted."""
        return plain_weights(1.0)

    @property
    def query_tokens(self) -> int:
        """Longer queries are cut."""
        return QUERY_TOKENS

    # --- what is held -----------------------------------------------------------------------------

    @property
    def n_documents(self) -> int:
        """Documents N in memory."""
        return len(self.held)

    @property
    def shape(self) -> tuple[int, int, int]:
        """N, the slots of the document that has most, and d."""
        return len(self.held), self.held.tables[SLOTS].width, self._width

    def document_slots(self, rows: Sequence[int] | torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Slots [B, m, d] of some documents (left out: all) and their spans [B, m], UNUSED where there is no slot."""
        table = self.held.tables[SLOTS]
        chosen = table if rows is None else table.select(rows)
        return chosen.vectors(), chosen.padded(_SPAN, fill=UNUSED)

    def remember(self, documents: Sequence[Document], z: torch.Tensor, spans: torch.Tensor) -> None:
        """Make `documents`, written as slots `z` [N, m, d] with `spans` [N, m], the memory."""
        self.hold(self.tables_of(documents, z, spans), document_frequency(documents))

    def tables_of(self, documents: Sequence[Document], z: torch.Tensor, spans: torch.Tensor) -> Tables:
        """What is kept of documents that were written: rows that depend on their own document alone."""
        used = spans != UNUSED
        slots = RowTable({**as_bytes(z.detach()[used].float()), _SPAN: spans[used].short()}, used.sum(1).int())
        words = {TITLE_WORDS: title_words(documents), TEXT_WORDS: text_words(documents)}
        return {SLOTS: slots, KEYS: self._sentence_keys(documents, slots), **words}

    def _sentence_keys(self, documents: Sequence[Document], slots: RowTable) -> RowTable:
        """Of the slots as they are kept, so that a key is that of what is read."""
        with torch.no_grad():
            keys: RowTable = self.router.stored_keys(slots.vectors(), slots.padded(_SPAN, fill=UNUSED))
        return keys

    def hold(self, tables: Tables, frequency: torch.Tensor) -> None:
        """Make these tables and document counts the memory."""
        moved = {name: table.to(self.device) for name, table in tables.items()}
        self.held = MemoryTables(moved, frequency.to(self.device), self.absent_key)

    def without(self, removed: Mapping[int, Document]) -> Self:
        """A model with the same theta whose memory is as if the documents of these rows had never been written."""
        kept = [row for row in range(self.n_documents) if row not in removed]
        counts = document_frequency(list(removed.values())).to(self.device)
        smaller = self.with_same_theta()
        tables = {name: table.select(kept) for name, table in self.held.tables.items()}
        smaller.hold(tables, self.held.frequency - counts)
        return smaller

    def stored_memory(self) -> dict[str, torch.Tensor]:
        """The memory as it is written to disk: only what is in use, in the cheapest numbers that lose nothing."""
        return self.held.stored()

    def restore_memory(self, stored: Mapping[str, torch.Tensor]) -> None:
        """Take a memory from disk.

        Raises:
            ValueError: its tables do not fit each other.
        """
        self.held = MemoryTables.restored(self.table_names, stored, self.absent_key, self.device)

    def stored_slots(self, row: int, first: int, last: int) -> bytes:
        """The bytes that keep slots `first` to `last` of a row on disk."""
        table = self.held.tables[SLOTS]
        start = int(table.starts[row])
        return table.columns[NUMBERS][start + first : start + last + 1].cpu().contiguous().numpy().tobytes()

    def stored_words(self, row: int) -> tuple[bytes, bytes]:
        """The bytes that keep the words of a row's title and of its text on disk."""
        title, text = (
            self.held.tables[name].select([row]).columns[WORD].cpu().numpy().tobytes()
            for name in (TITLE_WORDS, TEXT_WORDS)
        )
        return title, text

    @property
    def key_numbers(self) -> int:
        """Numbers of a document's routing keys, on average: words, and those of its sentences' keys."""
        tables = self.held.tables
        words = sum(tables[name].size for name in (TITLE_WORDS, TEXT_WORDS))
        return (words + tables[KEYS].columns[NUMBERS].numel()) // max(1, self.n_documents)

    @property
    def numbers_per_document(self) -> int:
        """Numbers that a document takes, slots and keys, on average."""
        slots = (
            sum(table.columns[NUMBERS].numel() for name, table in self.held.tables.items() if SCALE in table.columns)
            - self.held.tables[KEYS].columns[NUMBERS].numel()
        )
        return slots // max(1, self.n_documents) + self.key_numbers

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
        """Refined slots on the grid that they are stored on."""
        return quantise(z)

    def sentences_per_span(self, n: int) -> int:
        """How many of a document's n neighbouring sentences share a span, at least one."""
        return sentences_per_span(n, self.settings.slots)

    # --- routing ----------------------------------------------------------------------------------

    def query_vectors(self, queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """What sentence keys are compared with, [B, k], of questions given as token ids."""
        hidden, mask = self.query_states(queries)
        vectors: torch.Tensor = self.router.query_vectors(hidden[:, 1:], mask[:, 1:])
        return vectors

    def routing_scores(
        self, texts: Sequence[str], queries: Sequence[Sequence[int]], keys: DocumentKeys | None = None
    ) -> torch.Tensor:
        """Routing logits [B, N + 1] of B questions, given as text and as token ids; the last one is the null document.

        Args:
            keys: of N documents; left out: those in memory.
        """
        scores: torch.Tensor = self.router.scores(texts, self.query_vectors(queries), keys or self.held.document_keys)
        return scores

    def routing_terms(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """What the routing scores of the documents in memory are summed from, [3, B, N]: titles, texts, sentences."""
        return self.held.document_keys.terms(texts, self.query_vectors(queries))

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
