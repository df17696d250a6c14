"""The memory model: a backbone with the memory Z in front of it, as all policies share it."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.padding import pad
from zrag_core.model.architecture.query_states import Query, states_of
from zrag_core.settings.backbone import TINY
from zrag_core.systems import Policy

WRITE, ROUTE, EVIDENCE = 0, 1, 2
"""Learned marker vectors; every backbone gets them without a change of its tokenizer."""


class Prompt(NamedTuple):
    """What the LLM reads before it writes.

    Attributes:
        embeds: [B, T, H] input vectors.
        mask: [B, T], 1 where there is something.
        position_ids: [B, T].
    """

    embeds: torch.Tensor
    mask: torch.Tensor
    position_ids: torch.Tensor


class MemoryModel(nn.Module, ABC):
    """Z, m slots of d numbers for each of N documents, with everything that reads it.

    What is read is a soft prefix of slots: `[slots] query EVIDENCE evidence EOS` and `[slots] WRITE text EOS`. Each
    routed document is read on its own (as RAG-Sequence does, Lewis et al. 2020), so prefixes stay short and documents
    do not disturb each other. How documents are routed and what of them is read is the policies' own.

    Args:
        backbone: the LLM.
        slots, width: m and d.

    Attributes:
        opening_tokens: memory checks judge longer documents by their beginning.
        checked_questions: the most questions that memory checks ask.
    """

    policy: ClassVar[Policy]
    memory_names: ClassVar[tuple[str, ...]] = ()
    """Parameters and buffers that are the memory itself; everything else is theta."""

    def __init__(self, backbone: Backbone, slots: int, width: int):
        super().__init__()
        self.backbone = backbone
        self.lm = backbone.lm  # registered, so that .train(), .to() and parameters() reach it
        scale = float(backbone.lm.get_input_embeddings().weight.detach().float().std())
        self.embedding_scale = scale
        self._make_reading_heads(slots, width, backbone.hidden_size)
        self.alpha = 1.0
        self._kept_states: dict[Query, torch.Tensor] | None = None
        # A pretrained LLM reads a hundred times as slowly on a CPU as `zrag-tiny`.
        self.opening_tokens, self.checked_questions = (256, 128) if backbone.source == TINY else (48, 32)

    def _make_reading_heads(self, m: int, d: int, hidden: int) -> None:
        """What turns slots into input vectors, and the markers that tell the LLM what to do with them."""
        scale, device = self.embedding_scale, self.backbone.device
        self.projection = nn.Linear(d, hidden, device=device)
        # A slot starts out as long as a token embedding, so that the LLM can attend to it.
        nn.init.normal_(self.projection.weight, std=scale / d**0.5)
        nn.init.zeros_(self.projection.bias)
        self.slot_position = nn.Parameter(torch.randn(m, hidden, device=device) * scale)
        self.markers = nn.Parameter(torch.randn(3, hidden, device=device) * scale)

    # --- what each policy has of its own ----------------------------------------------------------

    @property
    @abstractmethod
    def n_documents(self) -> int:
        """Documents N in memory."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """N, the slots of the document that has most, and d."""

    @abstractmethod
    def document_slots(self, rows: Sequence[int] | torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Slots [B, m, d] of some documents (left out: all) and their spans [B, m], UNUSED where there is no slot."""

    @abstractmethod
    def stored_memory(self) -> dict[str, torch.Tensor]:
        """The memory as it is written to disk."""

    @abstractmethod
    def restore_memory(self, stored: Mapping[str, torch.Tensor]) -> None:
        """Take a memory from disk."""

    @abstractmethod
    def stored_slots(self, row: int, first: int, last: int) -> bytes:
        """The bytes that keep slots `first` to `last` of a row on disk."""

    @property
    @abstractmethod
    def query_tokens(self) -> int:
        """Longer queries are cut."""

    @abstractmethod
    def head_parameters(self) -> list[nn.Parameter]:
        """Everything trained besides theta's backbone part and Z."""

    @abstractmethod
    def routing_scores(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """Routing logits of B questions, given as text and as token ids.

        Returns:
            [B, N] over the documents in memory; a policy may add a column for "not in memory".
        """

    @abstractmethod
    def route(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities of all documents for B questions.

        Returns:
            log P(document | query) [B, N], among the documents alone, and the probability [B] of the null document
            against the best one; which document it is, if any, is another question than whether it is any.
        """

    @abstractmethod
    def best_spans(self, queries: Sequence[Sequence[int]], z: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """The spans [B, k] of its document, z [B, m, d] and spans [B, m], that each of B queries reads, best first.

        A document with fewer spans has -1 behind them.
        """

    @abstractmethod
    def position_ids(self, used: torch.Tensor, mask: torch.Tensor, distance: int | None = None) -> torch.Tensor:
        """Position ids [B, p + T] of a prefix of slots and what follows it.

        Args:
            used: [B, p], which slots are there.
            mask: [B, T], what follows them.
            distance: between slots, where it is not the model's own (in training).
        """

    @abstractmethod
    def text_units(self, text: str) -> list[list[int]]:
        """Token ids of a text, cut where spans may be cut."""

    @abstractmethod
    def sentences_per_span(self, n: int) -> int:
        """How many of a document's n neighbouring sentences share a span, at least one."""

    @abstractmethod
    def without(self, removed: Mapping[int, Document]) -> Self:
        """A model with the same theta whose memory is as if the documents of these rows had never been in it."""

    # --- what they share --------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the model's inputs have to be."""
        return self.backbone.device

    def head_state(self) -> dict[str, torch.Tensor]:
        """Tensors of the heads by name, for the checkpoint."""
        kept = ("lm.", *self.memory_names)
        return {name: value for name, value in self.state_dict().items() if not name.startswith(kept)}

    def stored_heads(self) -> dict[str, torch.Tensor]:
        """`head_state` in the numbers that it is written to disk in."""
        return self.head_state()

    @property
    def reading_weights(self) -> list[torch.Tensor]:
        """The matrices without which slots mean nothing to the LLM."""
        return [self.projection.weight]

    def bytes_per_document(self) -> float:
        """What a document takes on disk, in bytes; document counts, which all share, are left out."""
        stored = self.stored_memory()
        whole = sum(
            tensor.numel() * tensor.element_size()
            for name, tensor in stored.items()
            if not name.startswith("frequency")
        )
        return whole / max(1, self.n_documents)

    def drafts(self, z: torch.Tensor, used: torch.Tensor) -> list[list[int]] | None:
        """What the text behind slots z [B, p, d] most likely is, as token ids, before the LLM has read it; None where
        only reading can tell."""
        return None

    def with_same_theta(self) -> Self:
        """A model that shares theta with this one and starts with its memory; what it holds later, it holds alone."""
        other = copy.copy(self)
        # As torch's own data parallelism makes replicas: the tensors stay, the tables that name them are its own.
        other._parameters, other._buffers = dict(self._parameters), dict(self._buffers)
        return other

    def slots(self, z: torch.Tensor) -> torch.Tensor:
        """Soft prefix [B, p, H] of slots [B, p, d]; `alpha` scales what the LLM sees of z."""
        normed = F.rms_norm(z, (z.shape[-1],))
        number = torch.arange(z.shape[1], device=z.device).clamp(max=len(self.slot_position) - 1)
        prefix: torch.Tensor = (self.alpha * self.projection(normed) + self.slot_position[number]).to(self.lm.dtype)
        return prefix

    def prompt(
        self, z: torch.Tensor, used: torch.Tensor, queries: Sequence[Sequence[int]], distance: int | None = None
    ) -> Prompt:
        """Reading prompts of p + T + 1 vectors, padded so that generation continues at the end.

        Args:
            z: [B, p, d], the slots that each query reads.
            used: [B, p], which of them are there; the first always is.
            queries: token ids of B queries.
            distance: see `position_ids`.
        """
        ids, mask = pad(queries, self.backbone.pad_id, self.device, left=True)  # [B, T]
        # The slots stand first; the padding between them and the query is masked.
        embeds = torch.cat([self.slots(z), self._embed(ids), self._marker(EVIDENCE, len(queries))], 1)
        mask = torch.cat([mask, mask.new_ones(len(queries), 1)], 1)
        return Prompt(embeds, torch.cat([used.long(), mask], 1), self.position_ids(used, mask, distance))

    def write_prompt(self, z: torch.Tensor, used: torch.Tensor, distance: int | None = None) -> Prompt:
        """Prompts of p + 1 vectors that ask for the text behind slots z [B, p, d]."""
        embeds = torch.cat([self.slots(z), self._marker(WRITE, len(z))], 1)
        mask = torch.ones(len(z), 1, dtype=torch.long, device=self.device)
        return Prompt(embeds, torch.cat([used.long(), mask], 1), self.position_ids(used, mask, distance))

    def read_nll(
        self,
        z: torch.Tensor,
        used: torch.Tensor,
        queries: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        distance: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """NLL of each token of the evidence `targets` (each ending in EOS) given query and slots, and its number.

        Returns:
            nats [tokens], and the number of the target that each token belongs to [tokens].
        """
        return self.target_nll(self.prompt(z, used, queries, distance), targets, targets)

    def write_nll(
        self,
        z: torch.Tensor,
        used: torch.Tensor,
        inputs: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        distance: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `read_nll`, of texts behind slots; `inputs` are the targets with tokens masked."""
        return self.target_nll(self.write_prompt(z, used, distance), inputs, targets)

    def query_states(self, queries: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states [B, 1 + T, H] of the marker ROUTE and B queries behind it, and their mask [B, 1 + T]."""
        return states_of(queries, self._query_states, self._kept_states)

    @contextlib.contextmanager
    def each_query_once(self) -> Iterator[None]:
        """Within the block the states of a query are computed once, however often they are asked for.

        Theta must not change meanwhile.
        """
        self._kept_states = {}
        try:
            yield
        finally:
            self._kept_states = None

    def forget_readings(self) -> None:
        """Let go of what was read before, where any is kept: what follows then depends on itself alone, in the last
        bit too."""

    def _query_states(self, queries: Sequence[Query]) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = pad(queries, self.backbone.pad_id, self.device)
        embeds = torch.cat([self._marker(ROUTE, len(queries)), self._embed(ids)], 1)
        mask = torch.cat([mask.new_ones(len(queries), 1), mask], 1)
        return self.backbone.hidden(embeds, mask), mask

    def followed(self, prompt: Prompt, inputs: Sequence[Sequence[int]]) -> tuple[Prompt, torch.Tensor]:
        """Prompts with tokens behind them, and the mask [B, T] of these tokens."""
        ids, mask = pad(inputs, self.backbone.pad_id, self.device)  # [B, T]
        embeds = torch.cat([prompt.embeds, self._embed(ids)], 1)
        position_ids = torch.cat([prompt.position_ids, prompt.position_ids[:, -1:] + mask.cumsum(1)], 1)
        return Prompt(embeds, torch.cat([prompt.mask, mask], 1), position_ids), mask

    def target_nll(
        self, prompt: Prompt, inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """NLL of each token of `targets` behind prompts, and the number of the target that it belongs to [tokens].

        Args:
            inputs: what the LLM sees of the targets; the same, or with tokens masked.
        """
        whole, mask = self.followed(prompt, inputs)
        labels, _ = pad(targets, self.backbone.pad_id, self.device)
        length = prompt.position_ids.shape[1]
        hidden = self.backbone.hidden(whole.embeds, whole.mask, whole.position_ids)
        # The state before a target token predicts it: the last prompt position predicts the first one.
        real = mask.bool()
        before = hidden[:, length - 1 : -1][real]  # [tokens, H]
        owner = torch.arange(len(targets), device=self.device)[:, None].expand_as(real)[real]
        return self.backbone.nll(before, labels[real]), owner

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.backbone.embed(ids).to(self.lm.dtype)

    def _marker(self, kind: int, batch: int) -> Any:
        return self.markers[kind].to(self.lm.dtype).expand(batch, 1, -1)
