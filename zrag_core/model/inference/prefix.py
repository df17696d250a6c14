"""What the LLM keeps of all of Z, and decoding behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from zrag_core.errors import SettingsError
from zrag_core.model.architecture.network import MemoryModel, Prompt
from zrag_core.model.architecture.spans import span_slots

MOST_SLOTS = 32_768
"""Slots in a prefix, at most: every generated token attends to all of them, and each question holds a copy."""

_SPANS = 256  # spans read at once while the prefix is made


@dataclass(frozen=True)
class Prefix:
    """What the LLM keeps of all slots in memory.

    Every span is read by itself, at the positions where it stands when it is read alone: the layout that theta knows,
    in which no span depends on what stands before it (parallel context windows, Ratner et al. 2023, arXiv 2212.10947).

    Attributes:
        layers: keys and values of each layer, both [1, key/value heads, P, head width], of the P slots that are used.
        width: slots of the longest span; what comes behind a span stands behind as many positions.
    """

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    width: int

    @property
    def slots(self) -> int:
        """P."""
        return self.layers[0][0].shape[2]

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return sum(part.numel() * part.element_size() for layer in self.layers for part in layer)

    @classmethod
    @torch.no_grad()
    def read(cls, model: MemoryModel) -> Prefix:
        """Read all spans of all documents in memory, in the order of rows and spans.

        Raises:
            SettingsError: there are more than `MOST_SLOTS`.
        """
        z, spans = model.document_slots()
        units = [(row, span) for row, own in enumerate(spans.amax(1).tolist()) for span in range(own + 1)]
        # As everywhere, a memory without text is read as a slot of zeros, so that no prompt is empty.
        units = units or [(0, 0)]
        used_slots = int((spans >= 0).sum())
        if used_slots > MOST_SLOTS:
            raise SettingsError(
                f"zrag_full_prefix puts all of Z before every question, and {model.n_documents:,} documents have "
                f"{used_slots:,} slots; at most {MOST_SLOTS:,} are read at once",
                where="evaluation.systems",
                remedy="leave it out, or keep fewer documents (corpus.limit_documents)",
            )
        rows = torch.tensor([row for row, _ in units], device=model.device, dtype=torch.long)
        z, used = span_slots(z[rows], spans[rows], [span for _, span in units])
        width = z.shape[1]
        parts: list[list[tuple[torch.Tensor, torch.Tensor]]] = []
        for start in range(0, len(units), _SPANS):
            part = slice(start, start + _SPANS)
            there = used[part]
            # Of a prompt with an empty query only the slots are read.
            embeds, _, position_ids = model.prompt(z[part], there, [[]] * len(there))
            own = Prompt(embeds[:, :width], there.long(), position_ids[:, :width])
            cache = _read(model, own, None).past_key_values
            parts.append([(_flat(layer.keys, there), _flat(layer.values, there)) for layer in cache.layers])
        layers = tuple(
            (torch.cat([keys for keys, _ in own], 1)[None], torch.cat([values for _, values in own], 1)[None])
            for own in zip(*parts, strict=True)
        )
        return cls(layers, width)


@torch.no_grad()
def decode(model: MemoryModel, prefix: Prefix, queries: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """Greedy evidence for B queries behind `prefix`, which is not changed."""
    nothing = torch.zeros(len(queries), prefix.width, model.shape[-1], device=model.device)
    whole = model.prompt(nothing, torch.ones_like(nothing[..., 0], dtype=torch.bool), queries)
    return decode_behind(model, prefix, Prompt(*(part[:, prefix.width :] for part in whole)), max_new_tokens)


@torch.no_grad()
def decode_behind(
    model: MemoryModel, prefix: Prefix, prompt: Prompt, max_new_tokens: int, min_new_tokens: int = 0
) -> list[str]:
    """Greedy texts of B prompts that stand behind `prefix`."""
    from transformers import DynamicCache

    backbone, n = model.backbone, len(prompt.embeds)
    cache = DynamicCache([tuple(part.expand(n, -1, -1, -1) for part in layer) for layer in prefix.layers])
    seen = prompt.mask.new_ones(n, prefix.slots)
    prompt = prompt._replace(mask=torch.cat([seen, prompt.mask], 1))
    written: list[list[int]] = [[] for _ in range(n)]
    ended = torch.zeros(n, dtype=torch.bool, device=model.device)
    for step in range(max_new_tokens):
        logits = backbone.logits(_read(model, prompt, cache).last_hidden_state[:, -1])
        if step < min_new_tokens:
            logits[:, backbone.eos_id] = -torch.inf
        tokens = logits.argmax(-1)
        ended |= tokens == backbone.eos_id
        if ended.all():
            break
        for own, token, done in zip(written, tokens.tolist(), ended.tolist(), strict=True):
            if not done:
                own.append(token)
        prompt = Prompt(
            backbone.embed(tokens[:, None]).to(model.lm.dtype),
            torch.cat([prompt.mask, prompt.mask.new_ones(n, 1)], 1),
            prompt.position_ids[:, -1:] + 1,
        )
    return [backbone.decode(own) for own in written]


def _read(model: MemoryModel, prompt: Prompt, cache: Any | None) -> Any:
    return model.backbone.decoder(
        inputs_embeds=prompt.embeds,
        attention_mask=prompt.mask,
        position_ids=prompt.position_ids,
        past_key_values=cache,
        use_cache=True,
    )


def _flat(part: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
    """[heads, P, width] of the used slots of [S, heads, p, width], span by span."""
    return part.transpose(1, 2)[used].transpose(0, 1)
