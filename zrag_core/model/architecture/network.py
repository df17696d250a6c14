"""The memory model: a backbone, the memory Z in front of it, and the router between the two."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.backbone import Backbone, positions
from zrag_core.model.architecture.encoder import Encoder, Sentences
from zrag_core.model.architecture.features import BUCKETS, feature_ids
from zrag_core.model.architecture.joint_router import Router
from zrag_core.model.architecture.lexical_keys import document_frequency, lexical_keys
from zrag_core.model.architecture.padding import pad
from zrag_core.model.architecture.sentence_features import CONFIDENCE_FEATURES, plain_weights
from zrag_core.model.architecture.slot_router import SlotRouter, inverse_frequency
from zrag_core.settings import JointSettings, SeparatedSettings
from zrag_core.systems import Policy

WRITE, ROUTE, EVIDENCE = 0, 1, 2
"""Learned marker vectors; every backbone gets them without a change of its tokenizer."""

ORIGIN = 512
"""Position id of the first token of an evidence (policy `separated`); what comes before counts down from it."""


class MemoryModel(nn.Module):
    """Z [N, m, d] with everything that reads it.

    What is read is a soft prefix of slots: `[slots] query EVIDENCE evidence EOS` and `[slots] WRITE text EOS`. Each
    routed document is read on its own (as RAG-Sequence does, Lewis et al. 2020), so prefixes stay short and documents
    do not disturb each other.

    Under the policy `joint`, Z is trained and its rows are the routing keys as well; the prefix is the document's m
    slots. Under `separated`, an encoder writes Z, and routing compares lexical keys and keys made from the slots. It
    goes on to the span of a document (a sentence with slots of its own), whose slots are the prefix: position ids
    are such that the evidence's tokens stand beside the slots that keep them.

    Args:
        backbone: the LLM.
        settings: slots m, width d and, of a separated memory, the widths of its keys.
        n_documents: rows N of Z.
    """

    def __init__(self, backbone: Backbone, settings: SeparatedSettings | JointSettings, n_documents: int):
        super().__init__()
        self.backbone = backbone
        self.lm = backbone.lm  # registered, so that .train(), .to() and parameters() reach it
        self.settings = settings
        hidden, m, d = backbone.hidden_size, settings.slots, settings.width
        device = backbone.device
        weight = backbone.lm.get_input_embeddings().weight
        scale = float(weight.detach().float().std())
        self.z = nn.Parameter(torch.zeros(n_documents, m, d, device=device))
        # Under `joint` a document is one span of all its slots.
        self.register_buffer("spans", torch.zeros(n_documents, m, dtype=torch.int16, device=device))
        self.projection = nn.Linear(d, hidden, device=device)
        # A slot starts out as long as a token embedding, so that the LLM can attend to it.
        nn.init.normal_(self.projection.weight, std=scale / d**0.5)
        nn.init.zeros_(self.projection.bias)
        self.distance = settings.stride if isinstance(settings, SeparatedSettings) else 1
        self.slot_position = nn.Parameter(torch.randn(m, hidden, device=device) * scale)
        self.markers = nn.Parameter(torch.randn(3, hidden, device=device) * scale)
        self.router: Router | SlotRouter
        self.encoder: Encoder | None = None
        if isinstance(settings, JointSettings):
            self.router = Router(hidden, m * d).to(device)
        else:
            self.encoder = Encoder(hidden, m, d, settings.stride, settings.window, scale).to(device)
            # What is written is read back: the projection starts as the (scaled) transpose of the encoder's.
            with torch.no_grad():
                self.projection.weight.copy_(scale * self.encoder.down.weight.T)
            keys = (settings.key_width, settings.title_width, settings.text_width)
            self.router = SlotRouter(hidden, d, *keys).to(device)
        width = settings.title_width + settings.text_width if isinstance(settings, SeparatedSettings) else 0
        self.register_buffer("lexical", torch.zeros(n_documents, width, device=device))
        self.register_buffer("frequency", torch.zeros(BUCKETS, dtype=torch.int32, device=device))
        if isinstance(settings, SeparatedSettings):
            self.register_buffer("ranking", plain_weights(1.0).to(device))
            self.register_buffer("confidence", torch.zeros(len(CONFIDENCE_FEATURES) + 1, device=device))
        self.alpha = 1.0

    @property
    def policy(self) -> Policy:
        """Name of the policy, as settings and checkpoints give it."""
        return "separated" if isinstance(self.settings, SeparatedSettings) else "joint"

    @property
    def device(self) -> torch.device:
        """Where the model's inputs have to be."""
        return self.z.device

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything trained besides theta's backbone part and Z."""
        encoder = [] if self.encoder is None else self.encoder.parameters()
        return [*self.projection.parameters(), self.slot_position, self.markers, *self.router.parameters(), *encoder]

    def head_state(self) -> dict[str, torch.Tensor]:
        """Tensors of the heads by name, for the checkpoint."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith(("lm.", *MEMORY))}

    def named_memory(self) -> list[tuple[str, torch.Tensor]]:
        """Tensors of the memory itself: Z and its spans, and under `separated` the lexical keys and document counts."""
        names = MEMORY[:2] if self.encoder is None else MEMORY
        return [(name, getattr(self, name)) for name in names]

    def ranking_weights(self, prior_weight: float) -> torch.Tensor:
        """Weights of the sentence features: the skill's own, or plain mutual information under `joint`."""
        return plain_weights(prior_weight) if self.encoder is None else self.ranking.cpu()

    def confidence_weights(self) -> torch.Tensor | None:
        """Weights of P(answerable); None under `joint`, and before they were fitted."""
        return None if self.encoder is None or not self.confidence.any() else self.confidence.cpu()

    def encode(
        self, documents: Sequence[Sentences], stride: int | None = None, slots: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """z [B, slots, d] and spans [B, slots] of documents given as sentences (policy `separated`)."""
        assert self.encoder is not None, "the policy `joint` has no encoder"
        return self.encoder(self.backbone, documents, stride, slots)

    def remember(self, documents: Sequence[Document], z: torch.Tensor, spans: torch.Tensor) -> None:
        """Make `documents`, written as slots `z` [N, m, d] with `spans` [N, m], the memory (policy `separated`)."""
        keys = lexical_keys(documents, self.settings.title_width, self.settings.text_width)
        self.hold(z, spans, keys, document_frequency(documents))

    def hold(self, z: torch.Tensor, spans: torch.Tensor, lexical: torch.Tensor, frequency: torch.Tensor) -> None:
        """Make these tensors (see `named_memory`) the memory (policy `separated`)."""
        self.z = nn.Parameter(z.detach().to(self.device), requires_grad=False)
        self.spans = spans.to(self.device, torch.int16)
        self.lexical = lexical.to(self.device)
        self.frequency = frequency.to(self.device)

    def with_same_theta(self) -> MemoryModel:
        """A model that shares theta with this one and starts with its memory; what it holds later, it holds alone."""
        other = copy.copy(self)
        # As torch's own data parallelism makes replicas: the tensors stay, the tables that name them are its own.
        other._parameters, other._buffers = dict(self._parameters), dict(self._buffers)
        return other

    def slots(self, z: torch.Tensor) -> torch.Tensor:
        """Soft prefix [B, p, H] of slots [B, p, d]; `alpha` scales what the LLM sees of z."""
        normed = F.rms_norm(z, (z.shape[-1],))
        place = torch.arange(z.shape[1], device=z.device).clamp(max=len(self.slot_position) - 1)
        return (self.alpha * self.projection(normed) + self.slot_position[place]).to(self.lm.dtype)

    def prompt(
        self, z: torch.Tensor, used: torch.Tensor, queries: Sequence[Sequence[int]], distance: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reading prompts, padded so that generation continues at the end.

        Args:
            z: [B, p, d], the slots that each query reads.
            used: [B, p], which of them are there; the first always is.
            queries: token ids of B queries.
            distance: of the slots' positions, where it is not the model's own (in training).

        Returns:
            embeddings [B, p + T + 1, H], mask and position ids [B, p + T + 1].
        """
        ids, mask = pad(queries, self.backbone.pad_id, self.device, left=True)
        # The slots stand first; the padding between them and the query is masked.
        embeds = torch.cat([self.slots(z), self._embed(ids), self._marker(EVIDENCE, len(queries))], 1)
        mask = torch.cat([mask, mask.new_ones(len(queries), 1)], 1)
        return embeds, torch.cat([used.long(), mask], 1), self._places(used, mask, distance)

    def write_prompt(
        self, z: torch.Tensor, used: torch.Tensor, distance: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Prompt [B, p + 1, H] that asks for the text behind slots z [B, p, d], its mask and position ids."""
        embeds = torch.cat([self.slots(z), self._marker(WRITE, len(z))], 1)
        mask = torch.ones(len(z), 1, dtype=torch.long, device=self.device)
        return embeds, torch.cat([used.long(), mask], 1), self._places(used, mask, distance)

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
        return self._target_nll(self.prompt(z, used, queries, distance), targets, targets)

    def write_nll(
        self,
        z: torch.Tensor,
        used: torch.Tensor,
        inputs: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        distance: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `read_nll`, of texts behind slots; `inputs` are the targets with tokens masked."""
        return self._target_nll(self.write_prompt(z, used, distance), inputs, targets)

    def find(self, queries: Sequence[Sequence[int]], z: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
        """Logits [B, m + 1] of the spans of one document for each of B queries; the last is the null span.

        Args:
            queries: token ids.
            z, spans: [B, m, d] and [B, m], the documents in which they look.
        """
        if isinstance(self.router, Router):
            logits = torch.full((len(z), z.shape[1] + 1), float("-inf"), device=z.device)
            logits[:, 0] = 0.0
            return logits
        hidden, mask = self._query_states(queries)
        return self.router.find(hidden[:, 1:], mask[:, 1:], z, spans)

    def routing_scores(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """Routing logits of B questions, given as text and as token ids, over the documents in memory.

        Returns:
            [B, N] under the policy `joint`; [B, N + 1] under `separated`, where the last one is the null document.
        """
        if isinstance(self.router, Router):
            return self.router.scores(self.query_vectors(texts, queries), self.z)
        idf = inverse_frequency(self.frequency, len(self.z))
        return self.batch_routing_scores(texts, queries, self.z, self.spans, self.lexical, idf)

    def batch_routing_scores(
        self,
        texts: Sequence[str],
        queries: Sequence[Sequence[int]],
        z: torch.Tensor,
        spans: torch.Tensor,
        lexical: torch.Tensor,
        idf: torch.Tensor,
    ) -> torch.Tensor:
        """Routing logits [B, N + 1] over N documents given as slots [N, m, d], spans and lexical keys (`separated`)."""
        assert isinstance(self.router, SlotRouter)
        hidden, mask = self._query_states(queries)
        return self.router.scores(texts, hidden[:, 1:], mask[:, 1:], z=z, spans=spans, lexical=lexical, idf=idf)

    def routing_parts(
        self,
        texts: Sequence[str],
        queries: Sequence[Sequence[int]],
    ) -> torch.Tensor:
        """The router's terms for the documents in memory before they are scaled, [3, B, N] (`separated`)."""
        assert isinstance(self.router, SlotRouter)
        hidden, mask = self._query_states(queries)
        idf = inverse_frequency(self.frequency, len(self.z))
        memory = {"z": self.z, "spans": self.spans, "lexical": self.lexical, "idf": idf}
        return self.router.parts(texts, hidden[:, 1:], mask[:, 1:], **memory)

    def query_vectors(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """Query vectors [B, m * d] of the router of the policy `joint`."""
        assert isinstance(self.router, Router)
        hidden, mask = self._query_states(queries)
        return self.router.queries([feature_ids(text) for text in texts], hidden, mask)

    def _query_states(self, queries: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = pad(queries, self.backbone.pad_id, self.device)
        embeds = torch.cat([self._marker(ROUTE, len(queries)), self._embed(ids)], 1)
        mask = torch.cat([mask.new_ones(len(queries), 1), mask], 1)
        return self.backbone.hidden(embeds, mask), mask

    def _target_nll(
        self,
        prompt: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        inputs: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        embeds, prompt_mask, places = prompt
        ids, mask = pad(inputs, self.backbone.pad_id, self.device)
        labels, _ = pad(targets, self.backbone.pad_id, self.device)
        embeds = torch.cat([embeds, self._embed(ids)], 1)
        length = places.shape[1]
        places = torch.cat([places, places[:, -1:] + mask.cumsum(1)], 1)
        hidden = self.backbone.hidden(embeds, torch.cat([prompt_mask, mask], 1), places)
        # The state before a target token predicts it: the last prompt position predicts the first one.
        real = mask.bool()
        before = hidden[:, length - 1 : -1][real]
        owner = torch.arange(len(targets), device=self.device)[:, None].expand_as(real)[real]
        return self.backbone.nll(before, labels[real]), owner

    def _places(self, used: torch.Tensor, mask: torch.Tensor, distance: int | None) -> torch.Tensor:
        """Position ids [B, p + T] of slots [B, p] and what follows them, of which `mask` [B, T] is there."""
        p = used.shape[1]
        slots = torch.arange(p, device=self.device)
        if self.encoder is None:
            return torch.cat([slots.expand(len(used), -1), p + positions(mask)], 1)
        # Evidence token t stands at ORIGIN + t, beside the slot that keeps it; query and marker stand before ORIGIN.
        step = self.distance if distance is None else distance
        behind = ORIGIN - mask.shape[1] + torch.arange(mask.shape[1], device=self.device)
        return torch.cat([ORIGIN + slots * step, behind]).expand(len(used), -1)

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.backbone.embed(ids).to(self.lm.dtype)

    def _marker(self, kind: int, batch: int) -> torch.Tensor:
        return self.markers[kind].to(self.lm.dtype).expand(batch, 1, -1)


MEMORY = ("z", "spans", "lexical", "frequency")
"""Tensors of the memory itself; everything else is theta."""
