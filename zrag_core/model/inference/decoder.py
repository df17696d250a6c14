"""Scores given sentences by their log-likelihood, and generates text, both given slots of Z.

Sentences are scored exactly, not by a greedy trie, which would commit on the first token; `sentence_ranking` ranks
them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zrag_core.model.architecture.network import MemoryModel, Prompt
from zrag_core.model.architecture.spans import span_slots
from zrag_core.model.inference.greedy import greedy_tokens
from zrag_core.model.inference.speculative import follow_drafts

_SEQUENCES = 256


@torch.no_grad()
def sentence_likelihoods(
    model: MemoryModel,
    z: torch.Tensor,
    used: torch.Tensor,
    queries: Sequence[Sequence[int]],
    sentences: Sequence[Sequence[int]],
) -> torch.Tensor:
    """Length-normalised log P(sentence | query, slots), [C] nats per token (EOS included), of C sentences.

    Args:
        z, used: [C, p, d] and [C, p], the slots that are read.
        queries, sentences: token ids (without EOS).
    """
    targets = [[*sentence, model.backbone.eos_id] for sentence in sentences]
    scores = torch.zeros(len(targets), device=model.device)
    # Like lengths together: a batch is as wide as its longest sequence.
    order = sorted(range(len(targets)), key=lambda i: len(queries[i]) + len(targets[i]))
    for start in range(0, len(order), _SEQUENCES):
        rows = order[start : start + _SEQUENCES]
        own = [targets[i] for i in rows]
        nll, owner = model.read_nll(z[rows], used[rows], [queries[i] for i in rows], own)
        lengths = torch.tensor([len(target) for target in own], device=nll.device)
        scores[rows] = -torch.zeros(len(rows), device=nll.device).index_add(0, owner, nll) / lengths
    return scores


@torch.no_grad()
def generate(
    model: MemoryModel,
    z: torch.Tensor,
    used: torch.Tensor,
    queries: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    min_new_tokens: int = 0,
) -> list[str]:
    """Greedy evidence in the model's own words for B queries, each reading slots of z [B, p, d].

    With `min_new_tokens` 1 the evidence cannot be empty.
    """
    prompt, drafts = model.prompt(z, used, queries), model.drafts(z, used)
    if drafts is not None:
        return follow_drafts(model, prompt, drafts, max_new_tokens, min_new_tokens)
    return _greedy(model, prompt, max_new_tokens, min_new_tokens)


@torch.no_grad()
def reconstruct(model: MemoryModel, z: torch.Tensor, spans: torch.Tensor, max_new_tokens: int) -> str:
    """Greedy reconstruction of one document from its slots z [m, d] alone, span by span."""
    n = int(spans.max()) + 1
    if n == 0:
        return ""
    prefix = span_slots(z.expand(n, -1, -1), spans.expand(n, -1), range(n))
    return " ".join(rebuild(model, *prefix, max_new_tokens))


@torch.no_grad()
def rebuild(model: MemoryModel, z: torch.Tensor, used: torch.Tensor, max_new_tokens: int) -> list[str]:
    """Greedy texts of B spans from their slots z [B, p, d]."""
    prompt, drafts = model.write_prompt(z, used), model.drafts(z, used)
    if drafts is not None:
        return follow_drafts(model, prompt, drafts, max_new_tokens)
    return _greedy(model, prompt, max_new_tokens)


def _greedy(model: MemoryModel, prompt: Prompt, max_new_tokens: int, min_new_tokens: int = 0) -> list[str]:
    output = greedy_tokens(model.backbone, prompt, max_new_tokens, min_new_tokens)
    return [model.backbone.decode(row.tolist()) for row in output]
