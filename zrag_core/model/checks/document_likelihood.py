"""How likely a memory's slots make a document: nats per token of its text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zrag_core.model.architecture.encoder import Sentences
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.spans import span_slots

_TOKENS = 8192  # in one forward pass


def opening(model: MemoryModel, text: str) -> list[list[int]]:
    """Token ids of a document's first spans, as many as fit into `opening_tokens` of the model, but one at least."""
    sentences = model.text_units(text)
    run = model.sentences_per_span(len(sentences))
    kept: list[list[int]] = []
    for at in range(0, len(sentences), run):
        part = [token for ids in sentences[at : at + run] for token in ids]
        if sum(map(len, kept)) + len(part) > model.opening_tokens:
            return kept or [part[: model.opening_tokens]]
        kept.append(part)
    return kept


@torch.no_grad()
def document_nll(
    model: MemoryModel, z: torch.Tensor, spans: torch.Tensor, documents: Sequence[Sentences]
) -> torch.Tensor:
    """Mean NLL per token, [I, J] nats, of documents given as sentences, each written from each of z [J, m, d].

    A document's spans are written from those of the same number; what goes beyond the last one, from the last.
    """
    counts = (spans.max(1).values.long() + 1).clamp(min=1)
    result = torch.zeros(len(documents), len(z))
    for i, document in enumerate(documents):
        run = model.sentences_per_span(len(document))
        parts = [[t for ids in document[at : at + run] for t in ids] for at in range(0, len(document), run)]
        total = torch.zeros(len(z))
        for number, part in enumerate(parts):
            step = max(1, _TOKENS // (len(part) + 1 + z.shape[1]))
            for start in range(0, len(z), step):
                rows = slice(start, start + step)
                wanted = counts[rows].sub(1).clamp(max=number)
                prefix = span_slots(z[rows], spans[rows], wanted)
                targets = [part] * len(wanted)
                nll, owner = model.write_nll(*prefix, targets, targets)
                total[rows] += torch.zeros(len(wanted), device=nll.device).index_add(0, owner, nll).cpu()
        result[i] = total / max(1, sum(map(len, parts)))
    return result
