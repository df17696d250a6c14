"""The encoder: the backbone reads a document with memory tokens in it, and their hidden states become its z.

Memory tokens (Ge et al. 2024, In-context Autoencoder, arXiv 2307.06945) stand inside the document, as in Activation
Beacon (Zhang et al. 2024, arXiv 2401.03462), and not all at its end: each one keeps the few tokens before it, and has
everything before those as context. Every sentence ends with a memory token, so no slot holds the end of one sentence
and the beginning of the next: a *span*, a sentence with slots of its own, can be found and read by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from zrag_core.model.architecture.backbone import Backbone

Sentences = Sequence[Sequence[int]]
"""A document as the token ids of its sentences."""

UNUSED = -1
"""Span number of a slot that keeps nothing."""

_OWN_TOKENS = 2.0  # how loud a memory token's own tokens are in its input vector


class Encoder(nn.Module):
    """Writes documents into slots with one forward pass of the backbone.

    Args:
        hidden_size: width H of the backbone's hidden states.
        slots: vectors m per document.
        width: numbers d per vector.
        stride: tokens that a slot keeps, where the document fits; more where it does not.
        window: tokens that the backbone reads at once; a longer document is read in passages, none of it cut off.
        scale: standard deviation of the backbone's token embeddings.
    """

    def __init__(self, hidden_size: int, slots: int, width: int, stride: int, window: int, scale: float):
        super().__init__()
        self.slots, self.stride, self.window = slots, stride, window
        self.memory_token = nn.Parameter(torch.randn(hidden_size) * scale)
        self.down = nn.Linear(hidden_size, width)

    def forward(
        self,
        backbone: Backbone,
        documents: Sequence[Sentences],
        stride: int | None = None,
        slots: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Slots of B documents; each depends on its own document alone.

        Args:
            stride, slots: others than the encoder's own.

        Returns:
            z [B, slots, d], zero where a slot keeps nothing, and the span of each slot [B, slots].
        """
        slots = slots or self.slots
        layout = lay_out(documents, slots, stride or self.stride, backbone.pad_id, self.window)
        device = self.memory_token.device
        z = torch.zeros(len(documents), slots, self.down.out_features, device=device)
        spans = torch.full((len(documents), slots), UNUSED, device=device)
        if not len(layout.ids):
            return z, spans
        own, ids = layout.own.to(device), layout.ids.to(device)
        embedded = backbone.embed(ids).to(backbone.lm.dtype)
        # What a slot is to keep enters its memory token as a mean; attention then adds order and context. Without it,
        # finding a sentence among others did not get off chance in 400 steps; with it, 200 did (docs/experiments.md).
        mean = torch.einsum("pst,pth->psh", own.to(embedded.dtype), embedded)
        tokens = self.memory_token.to(embedded.dtype) + _OWN_TOKENS * mean
        used = (layout.spans != UNUSED).to(device)
        at = used.nonzero()[:, 0], layout.where.to(device)[used]
        hidden = backbone.hidden(embedded.index_put(at, tokens[used].to(embedded.dtype)), layout.mask.to(device))
        made = self.down(hidden[at].to(self.down.weight.dtype))
        place = layout.rows.to(device)[used], layout.numbers.to(device)[used]
        return z.to(made.dtype).index_put(place, made), spans.index_put(place, layout.spans.to(device)[used])


@dataclass(frozen=True)
class Layout:
    """Documents, cut into P passages, with memory tokens in them.

    Attributes:
        ids: [P, T] token ids; `fill` at memory tokens and padding.
        mask: [P, T], 1 where there is something.
        where: [P, n] positions of the memory tokens; 0 for unused slots.
        spans: [P, n] number of the span that each slot belongs to; `UNUSED` for unused slots.
        own: [P, n, T] weights of the tokens that a slot keeps: their mean.
        rows, numbers: [P, n] document of each slot, and its number among the document's slots.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    where: torch.Tensor
    spans: torch.Tensor
    own: torch.Tensor
    rows: torch.Tensor
    numbers: torch.Tensor


def lay_out(documents: Sequence[Sentences], slots: int, stride: int, fill: int, window: int | None = None) -> Layout:
    """Put at most `slots` memory tokens into each document, one behind every `stride` tokens of each span.

    Args:
        window: most tokens of a passage (None: documents stay whole).
    """
    passages: list[tuple[int, int, list[int], list[tuple[int, int]]]] = []  # row, first slot, tokens, plan
    for row, document in enumerate(documents):
        tokens = [token for sentence in document for token in sentence]
        plan = plan_spans([len(sentence) for sentence in document], slots, stride)
        first = read = 0
        for part in cut_plan(plan, window or max(1, len(tokens))):
            length = sum(length for _, length in part)
            passages.append((row, first, tokens[read : read + length], part))
            first, read = first + len(part), read + length
    n = max((len(plan) for *_, plan in passages), default=0)
    width = max((len(tokens) + len(plan) for _, _, tokens, plan in passages), default=0)
    ids = torch.full((len(passages), width), fill, dtype=torch.long)
    mask = torch.zeros(len(passages), width, dtype=torch.long)
    where, rows, numbers = (torch.zeros(len(passages), n, dtype=torch.long) for _ in range(3))
    spans = torch.full((len(passages), n), UNUSED, dtype=torch.long)
    own = torch.zeros(len(passages), n, width)
    for place, (row, first, tokens, plan) in enumerate(passages):
        start = read = 0
        for slot, (span, length) in enumerate(plan):
            end = start + length
            ids[place, start:end] = torch.tensor(tokens[read : read + length], dtype=torch.long)
            own[place, slot, start:end] = 1 / length
            where[place, slot], spans[place, slot] = end, span
            rows[place, slot], numbers[place, slot] = row, first + slot
            start, read = end + 1, read + length
        mask[place, :start] = 1
    return Layout(ids, mask, where, spans, own, rows, numbers)


def cut_plan(plan: Sequence[tuple[int, int]], window: int) -> list[list[tuple[int, int]]]:
    """Cut a document's slots (span, tokens) into passages of at most `window` tokens, between spans where that will do.

    A slot of more tokens is a passage of its own; a document without a slot has no passage.
    """
    lengths: dict[int, int] = {}
    for span, length in plan:
        lengths[span] = lengths.get(span, 0) + length
    passages: list[list[tuple[int, int]]] = []
    size = 0
    previous = UNUSED
    for span, length in plan:
        ahead = lengths[span] if span != previous and lengths[span] <= window else length
        if not passages or size + ahead > window:
            passages.append([])
            size = 0
        passages[-1].append((span, length))
        size, previous = size + length, span
    return passages


def plan_spans(lengths: Sequence[int], slots: int, stride: int) -> list[tuple[int, int]]:
    """Span number and number of tokens of each slot, in order, for sentences of these lengths (none empty).

    A document that does not fit has more tokens per slot; where it has more sentences than slots, neighbouring
    sentences share a span.
    """
    run = sentences_per_span(len(lengths), slots)
    spans = [sum(lengths[start : start + run]) for start in range(0, len(lengths), run)]
    distance = max(stride, -(-sum(spans) // slots))
    while sum(-(-length // distance) for length in spans) > slots:
        distance += 1
    return [
        (span, min(distance, length - start))
        for span, length in enumerate(spans)
        for start in range(0, length, distance)
    ]


def sentences_per_span(n: int, slots: int) -> int:
    """How many of n neighbouring sentences share a span: one, unless there are more sentences than slots."""
    return max(1, -(-n // slots))
