"""The memory model: a backbone, the memory Z in front of it, and the router between the two."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.corpus.types import Document
from zrag_core.model.backbone import Backbone, positions
from zrag_core.model.encoder import Encoder
from zrag_core.model.features import BUCKETS, feature_ids
from zrag_core.model.lexical import document_frequency, lexical_keys
from zrag_core.model.packing import pack, pad
from zrag_core.model.ranking import CONFIDENCE_FEATURES, plain_weights
from zrag_core.model.router import Router
from zrag_core.model.slot_router import SlotRouter, inverse_frequency
from zrag_core.settings import MemorySettings

WRITE, ROUTE, EVIDENCE = 0, 1, 2
"""Learned marker vectors; every backbone gets them without a change of its tokenizer."""


class MemoryModel(nn.Module):
    """Z [N, m, d] with everything that reads it.

    A document is read as the soft prefix of its m slots: `[slots] query EVIDENCE evidence EOS`,
    and reconstructed as `[slots] WRITE text EOS`. Each routed document is read on its own (as
    RAG-Sequence does, Lewis et al. 2020), so prefixes stay short and documents do not disturb
    each other.

    Under the policy `joint`, Z is trained and its rows are the routing keys as well. Under `separated`, an encoder
    writes Z, and routing compares lexical keys and keys made from the slots.

    Args:
        backbone: the LLM.
        settings: policy, slots m, width d and the widths of the keys.
        n_documents: rows N of Z.
    """

    def __init__(self, backbone: Backbone, settings: MemorySettings, n_documents: int):
        super().__init__()
        self.backbone = backbone
        self.lm = backbone.lm  # registered, so that .train(), .to() and parameters() reach it
        self.settings = settings
        hidden, m, d = backbone.hidden_size, settings.slots, settings.width
        device = backbone.device
        weight = backbone.lm.get_input_embeddings().weight
        scale = float(weight.detach().float().std())
        self.z = nn.Parameter(torch.zeros(n_documents, m, d, device=device))
        self.projection = nn.Linear(d, hidden, device=device)
        # A slot starts out as long as a token embedding, so that the LLM can attend to it.
        nn.init.normal_(self.projection.weight, std=scale / d**0.5)
        nn.init.zeros_(self.projection.bias)
        # Slots stand where the text that they keep stood, so that rebuilding a token looks at a slot close by.
        self.distance = 1 if settings.policy == "joint" else settings.stride
        self.slot_position = nn.Parameter(torch.randn(m, hidden, device=device) * scale)
        self.markers = nn.Parameter(torch.randn(3, hidden, device=device) * scale)
        self.router: Router | SlotRouter
        self.encoder: Encoder | None = None
        if settings.policy == "joint":
            self.router = Router(hidden, m * d).to(device)
        else:
            self.encoder = Encoder(hidden, m, d, settings.stride, scale).to(device)
            # What is written is read back: the projection starts as the (scaled) transpose of the encoder's.
            with torch.no_grad():
                self.projection.weight.copy_(scale * self.encoder.down.weight.T)
            keys = (settings.key_width, settings.title_width, settings.text_width)
            self.router = SlotRouter(hidden, d, *keys).to(device)
        width = settings.title_width + settings.text_width if settings.policy == "separated" else 0
        self.register_buffer("lexical", torch.zeros(n_documents, width, device=device))
        self.register_buffer("frequency", torch.zeros(BUCKETS, dtype=torch.int32, device=device))
        if settings.policy == "separated":
            self.register_buffer("ranking", plain_weights(1.0).to(device))
            self.register_buffer("confidence", torch.zeros(len(CONFIDENCE_FEATURES) + 1, device=device))
        self.alpha = 1.0

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
        """Tensors of the memory itself: Z, and under `separated` the lexical keys and document counts."""
        names = MEMORY[:1] if self.encoder is None else MEMORY
        return [(name, getattr(self, name)) for name in names]

    def ranking_weights(self, prior_weight: float) -> torch.Tensor:
        """Weights of the sentence features: the skill's own, or plain mutual information under `joint`."""
        return plain_weights(prior_weight) if self.encoder is None else self.ranking.cpu()

    def confidence_weights(self) -> torch.Tensor | None:
        """Weights of P(answerable); None under `joint`, and before they were fitted."""
        return None if self.encoder is None or not self.confidence.any() else self.confidence.cpu()

    def encode(
        self, documents: Sequence[Sequence[int]], stride: int | None = None, slots: int | None = None
    ) -> torch.Tensor:
        """z [B, slots, d] of documents given as token ids, by one forward pass (policy `separated`)."""
        assert self.encoder is not None, "the policy `joint` has no encoder"
        return self.encoder(self.backbone, documents, stride, slots)

    def remember(self, documents: Sequence[Document], z: torch.Tensor) -> None:
        """Make `documents`, written as slots `z` [N, m, d], the memory (policy `separated`)."""
        keys = lexical_keys(documents, self.settings.title_width, self.settings.text_width)
        self.z = nn.Parameter(z.detach().to(self.device), requires_grad=False)
        self.lexical = keys.to(self.device)
        self.frequency = document_frequency(documents).to(self.device)

    def slots(self, z: torch.Tensor) -> torch.Tensor:
        """Soft prefix [B, m, H] of slots [B, m, d]; `alpha` scales what the LLM sees of z."""
        normed = F.rms_norm(z, (z.shape[-1],))
        return (self.alpha * self.projection(normed) + self.slot_position[: z.shape[1]]).to(self.lm.dtype)

    def prompt(
        self, z: torch.Tensor, queries: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reading prompts, padded on the left so that generation continues at the end.

        Args:
            z: [B, m, d], the document each query reads.
            queries: token ids of B queries.

        Returns:
            embeddings [B, m + T + 1, H], mask and position ids [B, m + T + 1].
        """
        ids, mask = pad(queries, self.backbone.pad_id, self.device, left=True)
        ones = mask.new_ones(len(queries), 1)
        slots, evidence = self.slots(z), self._marker(EVIDENCE, len(queries))
        # The slots stand first; the padding between them and the query is masked.
        embeds = torch.cat([slots, self._embed(ids), evidence], 1)
        mask = torch.cat([mask, ones], 1)
        places = torch.cat([self._slot_places(z), self._behind_slots + positions(mask)], 1)
        return embeds, torch.cat([ones.expand(-1, slots.shape[1]), mask], 1), places

    def read_loss(
        self, z: torch.Tensor, queries: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Mean NLL per token of evidence `targets` (each ending in EOS) given query and slots z [B, m, d]."""
        prompt, mask, places = self.prompt(z, queries)
        return self._target_nll(prompt, mask, places, targets, targets)

    def packed_read_nll(
        self,
        z: torch.Tensor,
        pairs: Sequence[Sequence[tuple[Sequence[int], Sequence[int]]]],
        distance: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """NLL of many (query, evidence) pairs for each document; the slots are processed once for all of them.

        Every pair sees the slots and itself only, at the positions that it has when it is read alone.

        Args:
            z: [B, m, d].
            pairs: for each document its (query, evidence ending in EOS) as token ids.
            distance: of the slots' positions, where it is not the model's own (in training).

        Returns:
            NLL of each evidence token, and the number of the document that it belongs to; both [tokens].
        """
        prefix = self.slots(z)
        packed = pack(pairs, prefix.shape[1], self.backbone.pad_id).to(self.device)
        marker = self.markers[EVIDENCE].to(prefix.dtype)
        embeds = torch.where(packed.marker[..., None], marker, self._embed(packed.ids))
        places = torch.cat([self._slot_places(z, distance), self._behind_slots + packed.positions], 1)
        hidden = self.backbone.hidden(torch.cat([prefix, embeds], 1), packed.allowed[:, None], places)
        wanted = packed.labels >= 0
        logits = self.backbone.logits(hidden[:, prefix.shape[1] :][wanted])
        owner = torch.arange(len(pairs), device=self.device)[:, None].expand_as(wanted)[wanted]
        return F.cross_entropy(logits, packed.labels[wanted], reduction="none"), owner

    def write_loss(
        self,
        z: torch.Tensor,
        inputs: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        distance: int | None = None,
    ) -> torch.Tensor:
        """Mean NLL per token of document `targets` given slots z; `inputs` are the targets with tokens masked."""
        prompt, mask, places = self.write_prompt(z, distance)
        return self._target_nll(prompt, mask, places, inputs, targets)

    def write_prompt(
        self, z: torch.Tensor, distance: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Prompt [B, m + 1, H] that asks for the document behind slots z [B, m, d], its mask and position ids."""
        prompt = torch.cat([self.slots(z), self._marker(WRITE, len(z))], 1)
        mask = torch.ones(prompt.shape[:2], dtype=torch.long, device=self.device)
        # The text starts beside its first slot (`separated`) or behind the last one (`joint`).
        start = z.shape[1] if self.encoder is None else 0
        places = torch.cat([self._slot_places(z, distance), mask.new_full((len(z), 1), start)], 1)
        return prompt, mask, places

    def routing_scores(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """Routing logits of B questions, given as text and as token ids, over the documents in memory.

        Returns:
            [B, N] under the policy `joint`; [B, N + 1] under `separated`, where the last one is the null document.
        """
        if isinstance(self.router, Router):
            return self.router.scores(self.query_vectors(texts, queries), self.z)
        idf = inverse_frequency(self.frequency, len(self.z))
        return self.batch_routing_scores(texts, queries, self.z, self.lexical, idf)

    def batch_routing_scores(
        self,
        texts: Sequence[str],
        queries: Sequence[Sequence[int]],
        z: torch.Tensor,
        lexical: torch.Tensor,
        idf: torch.Tensor,
    ) -> torch.Tensor:
        """Routing logits [B, N + 1] over N documents given as slots [N, m, d] and lexical keys (`separated`)."""
        assert isinstance(self.router, SlotRouter)
        hidden, mask = self._query_states(queries)
        return self.router.scores(texts, hidden[:, 1:], mask[:, 1:], z=z, lexical=lexical, idf=idf)

    def routing_parts(
        self,
        texts: Sequence[str],
        queries: Sequence[Sequence[int]],
    ) -> torch.Tensor:
        """The router's terms for the documents in memory before they are scaled, [3, B, N] (`separated`)."""
        assert isinstance(self.router, SlotRouter)
        hidden, mask = self._query_states(queries)
        idf = inverse_frequency(self.frequency, len(self.z))
        return self.router.parts(texts, hidden[:, 1:], mask[:, 1:], z=self.z, lexical=self.lexical, idf=idf)

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
        prompt: torch.Tensor,
        prompt_mask: torch.Tensor,
        places: torch.Tensor,
        inputs: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
    ) -> torch.Tensor:
        ids, mask = pad(inputs, self.backbone.pad_id, self.device)
        labels, _ = pad(targets, self.backbone.pad_id, self.device)
        embeds = torch.cat([prompt, self._embed(ids)], 1)
        places = torch.cat([places, places[:, -1:] + mask.cumsum(1)], 1)
        hidden = self.backbone.hidden(embeds, torch.cat([prompt_mask, mask], 1), places)
        # The state before a target token predicts it: the last prompt position predicts the first one.
        before = hidden[:, prompt.shape[1] - 1 : -1]
        real = mask.bool()
        return F.cross_entropy(self.backbone.logits(before[real]), labels[real])

    @property
    def _behind_slots(self) -> int:
        return self.settings.slots * self.distance

    def _slot_places(self, z: torch.Tensor, distance: int | None = None) -> torch.Tensor:
        step = self.distance if distance is None else distance
        return (torch.arange(z.shape[1], device=self.device) * step).expand(len(z), -1)

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.backbone.embed(ids).to(self.lm.dtype)

    def _marker(self, kind: int, batch: int) -> torch.Tensor:
        return self.markers[kind].to(self.lm.dtype).expand(batch, 1, -1)


MEMORY = ("z", "lexical", "frequency")
"""Tensors of the memory itself; everything else is theta."""
