"""The memory model: a backbone, the memory Z in front of it, and the router between the two."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from zrag_core.model.backbone import Backbone
from zrag_core.model.features import feature_ids
from zrag_core.model.router import Router
from zrag_core.settings import MemorySettings

WRITE, ROUTE, EVIDENCE = 0, 1, 2
"""Learned marker vectors; every backbone gets them without a change of its tokenizer."""


class MemoryModel(nn.Module):
    """Z [N, m, d] with everything that reads it.

    A document is read as the soft prefix of its m slots: `[slots] query EVIDENCE evidence EOS`,
    and reconstructed as `[slots] WRITE text EOS`. Each routed document is read on its own (as
    RAG-Sequence does, Lewis et al. 2020), so prefixes stay short and documents do not disturb
    each other.

    Args:
        backbone: the LLM.
        settings: slots m and width d.
        n_documents: rows N of Z.
    """

    def __init__(self, backbone: Backbone, settings: MemorySettings, n_documents: int):
        super().__init__()
        self.backbone = backbone
        self.lm = backbone.lm  # registered, so that .train(), .to() and parameters() reach it
        hidden, m, d = backbone.hidden_size, settings.slots, settings.width
        device = backbone.device
        weight = backbone.lm.get_input_embeddings().weight
        scale = float(weight.detach().float().std())
        self.z = nn.Parameter(torch.zeros(n_documents, m, d, device=device))
        self.projection = nn.Linear(d, hidden, device=device)
        # A slot starts out as long as a token embedding, so that the LLM can attend to it.
        nn.init.normal_(self.projection.weight, std=scale / d**0.5)
        nn.init.zeros_(self.projection.bias)
        self.slot_position = nn.Parameter(torch.randn(m, hidden, device=device) * scale)
        self.markers = nn.Parameter(torch.randn(3, hidden, device=device) * scale)
        self.router = Router(hidden, m * d).to(device)
        self.alpha = 1.0

    @property
    def device(self) -> torch.device:
        """Where the model's inputs have to be."""
        return self.z.device

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything trained besides theta's backbone part and Z."""
        return [*self.projection.parameters(), self.slot_position, self.markers, *self.router.parameters()]

    def head_state(self) -> dict[str, torch.Tensor]:
        """Tensors of the heads by name, for the checkpoint."""
        state = self.state_dict()
        return {name: value for name, value in state.items() if not name.startswith("lm.") and name != "z"}

    def slots(self, z: torch.Tensor) -> torch.Tensor:
        """Soft prefix [B, m, H] of documents' slots [B, m, d]; `alpha` scales what the LLM sees of z."""
        normed = F.rms_norm(z, (z.shape[-1],))
        return (self.alpha * self.projection(normed) + self.slot_position).to(self.lm.dtype)

    def prompt(self, z: torch.Tensor, queries: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Reading prompts, padded on the left so that generation continues at the end.

        Args:
            z: [B, m, d], the document each query reads.
            queries: token ids of B queries.

        Returns:
            embeddings [B, m + T + 1, H] and mask [B, m + T + 1].
        """
        ids, mask = pad(queries, self.backbone.pad_id, self.device, left=True)
        ones = mask.new_ones(len(queries), 1)
        slots, evidence = self.slots(z), self._marker(EVIDENCE, len(queries))
        # The slots stand first; the padding between them and the query is masked.
        embeds = torch.cat([slots, self._embed(ids), evidence], 1)
        return embeds, torch.cat([ones.expand(-1, slots.shape[1]), mask, ones], 1)

    def read_loss(
        self, z: torch.Tensor, queries: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Mean NLL per token of evidence `targets` (each ending in EOS) given query and slots z [B, m, d]."""
        prompt, prompt_mask = self.prompt(z, queries)
        return self._target_nll(prompt, prompt_mask, targets, targets)

    def write_loss(
        self, z: torch.Tensor, inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Mean NLL per token of document `targets` given slots z; `inputs` are the targets with tokens masked."""
        prompt = self.write_prompt(z)
        mask = torch.ones(prompt.shape[:2], dtype=torch.long, device=self.device)
        return self._target_nll(prompt, mask, inputs, targets)

    def write_prompt(self, z: torch.Tensor) -> torch.Tensor:
        """Prompt [B, m + 1, H] that asks for the document behind slots z [B, m, d]."""
        return torch.cat([self.slots(z), self._marker(WRITE, len(z))], 1)

    def query_vectors(self, texts: Sequence[str], queries: Sequence[Sequence[int]]) -> torch.Tensor:
        """Router query vectors [B, m * d] of questions given as text and as token ids."""
        ids, mask = pad(queries, self.backbone.pad_id, self.device)
        ones = mask.new_ones(len(queries), 1)
        embeds = torch.cat([self._marker(ROUTE, len(queries)), self._embed(ids)], 1)
        mask = torch.cat([ones, mask], 1)
        hidden = self.backbone.hidden(embeds, mask)
        return self.router.queries([feature_ids(text) for text in texts], hidden, mask)

    def _target_nll(
        self,
        prompt: torch.Tensor,
        prompt_mask: torch.Tensor,
        inputs: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
    ) -> torch.Tensor:
        ids, mask = pad(inputs, self.backbone.pad_id, self.device)
        labels, _ = pad(targets, self.backbone.pad_id, self.device)
        embeds = torch.cat([prompt, self._embed(ids)], 1)
        hidden = self.backbone.hidden(embeds, torch.cat([prompt_mask, mask], 1))
        # The state before a target token predicts it: the last prompt position predicts the first one.
        before = hidden[:, prompt.shape[1] - 1 : -1]
        real = mask.bool()
        return F.cross_entropy(self.backbone.logits(before[real]), labels[real])

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.backbone.embed(ids).to(self.lm.dtype)

    def _marker(self, kind: int, batch: int) -> torch.Tensor:
        return self.markers[kind].to(self.lm.dtype).expand(batch, 1, -1)


def pad(
    sequences: Sequence[Sequence[int]], fill: int, device: torch.device, *, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack sequences of token ids into [B, T] with a mask [B, T] (1 at real tokens)."""
    width = max(1, max((len(s) for s in sequences), default=1))
    ids = torch.full((len(sequences), width), fill, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        where = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[row, where] = torch.tensor(sequence, dtype=torch.long)
        mask[row, where] = 1
    return ids.to(device), mask.to(device)
