"""From questions to evidence: route, then read each routed document's slots.

Constrained decoding scores every sentence of the routed documents exactly (not by a greedy trie,
which would commit on the first token), so the evidence is verbatim corpus text with its offsets.
Free decoding is the model's own words. Both read one document at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from zrag_core.corpus.types import Document
from zrag_core.evidence import Segment
from zrag_core.model.backbone import Backbone
from zrag_core.model.features import feature_ids
from zrag_core.model.network import MemoryModel
from zrag_core.model.packing import pad
from zrag_core.text import split_sentences

_POSITIONS = 1024
_FIRST_STEP = 0.75


@dataclass(frozen=True, slots=True)
class Routed:
    """Documents chosen for each of B queries, best first.

    Attributes:
        rows: [B, k] rows of Z.
        log_p: [B, k] log P(document | query) over all documents in memory.
        null_p: [B] probability of the null document ("not in memory"); 0 where the policy has none.
        second: [B, k] bool, documents that the second step led to.
    """

    rows: torch.Tensor
    log_p: torch.Tensor
    null_p: torch.Tensor
    second: torch.Tensor


@torch.no_grad()
def route(model: MemoryModel, texts: Sequence[str], queries: Sequence[Sequence[int]], k: int) -> Routed:
    """Score all N documents for B queries and keep the best min(k, N)."""
    log_p, null_p = route_all(model, texts, queries)
    best, rows = log_p.topk(min(k, log_p.shape[1]), dim=-1)
    return Routed(rows, best, null_p, torch.zeros_like(rows, dtype=torch.bool))


@torch.no_grad()
def route_all(
    model: MemoryModel, texts: Sequence[str], queries: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """log P(document | query) of all N documents for B queries, [B, N], and the null document's probability, [B].

    The former is among the documents alone: which one it is, if any, is another question than whether it is any.
    """
    n = len(model.z)
    scores = model.routing_scores(texts, queries).float()
    return torch.log_softmax(scores[:, :n], dim=-1), torch.softmax(scores, dim=-1)[:, n:].sum(1)


@torch.no_grad()
def route_again(
    model: MemoryModel,
    first: torch.Tensor,
    null_p: torch.Tensor,
    texts: Sequence[str],
    queries: Sequence[Sequence[int]],
    sources: Sequence[int],
    k: int,
) -> Routed:
    """Merge a first routing with a second one, whose queries are conditioned on the first evidence.

    The second step asks where the evidence leads, so the document that it came from is left out of it. A document's
    probability is a mixture of both steps', in which the first weighs more: what the question names comes first.

    Args:
        first: [B, N] log probabilities of the first step.
        null_p: [B] probability of the null document in the first step.
        texts, queries: the second step's queries.
        sources: row that each query's first evidence came from.
        k: documents to keep.
    """
    scores = model.routing_scores(texts, queries).float()[:, : first.shape[1]]
    scores[torch.arange(len(sources)), torch.tensor(sources, device=scores.device)] = float("-inf")
    again = torch.log_softmax(scores, dim=-1) if first.shape[1] > 1 else scores
    named, led_to = first + math.log(_FIRST_STEP), again + math.log(1 - _FIRST_STEP)
    both = torch.logaddexp(named, led_to)
    best, rows = both.topk(min(k, both.shape[1]), dim=-1)
    return Routed(rows, best, null_p, (led_to > named).gather(1, rows))


@torch.no_grad()
def read_sentences(
    model: MemoryModel,
    z: torch.Tensor,
    queries: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[Sequence[int]]],
) -> tuple[torch.Tensor, list[list[float]]]:
    """Length-normalised log P(sentence | query, slots), and how likely each document answers at all.

    The prompt of each document is run once; its key/value cache is shared by the document's sentences.

    Args:
        z: [k, m, d], the documents that are read.
        queries: what each of them is asked, token ids.
        candidates: for each document, the token ids of its sentences (without EOS).

    Returns:
        log(1 - P(empty evidence)) of each document, [k]; and for each document, nats per token of each of its
        sentences (EOS included).
    """
    backbone = model.backbone
    eos = backbone.eos_id
    prompt, prompt_mask, places = model.prompt(z, queries)
    output = backbone.decoder(inputs_embeds=prompt, attention_mask=prompt_mask, position_ids=places, use_cache=True)
    empty = torch.log_softmax(backbone.logits(output.last_hidden_state[:, -1]), -1)[:, eos]
    answers = torch.log1p(-empty.exp().clamp(max=1 - 1e-6))
    counts = [len(sentences) for sentences in candidates]
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(model.device)
    targets = [[*sentence, eos] for sentences in candidates for sentence in sentences]
    ids, mask = pad(targets, backbone.pad_id, model.device)
    cache = output.past_key_values
    cache.batch_select_indices(owner)
    full_mask = torch.cat([prompt_mask[owner], mask], 1)
    hidden = backbone.decoder(
        inputs_embeds=backbone.embed(ids).to(backbone.lm.dtype),
        attention_mask=full_mask,
        position_ids=places[owner, -1:] + mask.cumsum(1),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    # The prompt's last state predicts the first token, each token's state the next one.
    before = torch.cat([output.last_hidden_state[owner, -1:], hidden[:, :-1]], 1)
    real = mask.bool()
    nll = torch.zeros(ids.shape, device=ids.device)
    nll[real] = token_nll(backbone, before[real], ids[real])
    means = (-nll.sum(1) / mask.sum(1)).tolist()
    result, position = [], 0
    for count in counts:
        result.append(means[position : position + count])
        position += count
    return answers, result


def token_nll(backbone: Backbone, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """NLL [P] of `labels` [P] under hidden states [P, H], a chunk at a time: float32 logits of a large vocabulary
    (152 thousand for Qwen3) at every position at once would not fit beside the model."""
    parts = [
        torch.nn.functional.cross_entropy(backbone.logits(states), wanted, reduction="none")
        for states, wanted in zip(hidden.split(_POSITIONS), labels.split(_POSITIONS), strict=True)
    ]
    return torch.cat(parts)


@torch.no_grad()
def generate(
    model: MemoryModel,
    z: torch.Tensor,
    queries: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    min_new_tokens: int = 0,
) -> list[str]:
    """Greedy evidence in the model's own words for B queries, each reading one document of z [B, m, d].

    With `min_new_tokens` 1 the evidence cannot be empty: refusing is ruled out.
    """
    return _greedy(model, model.prompt(z, queries), max_new_tokens, min_new_tokens)


@torch.no_grad()
def reconstruct(model: MemoryModel, z: torch.Tensor, max_new_tokens: int) -> list[str]:
    """Greedy reconstruction of documents from their slots z [B, m, d] alone."""
    return _greedy(model, model.write_prompt(z), max_new_tokens)


def _greedy(
    model: MemoryModel,
    prompt: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    max_new_tokens: int,
    min_new_tokens: int = 0,
) -> list[str]:
    embeds, mask, places = prompt
    backbone = model.backbone
    output = backbone.lm.generate(
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=places,
        min_new_tokens=min_new_tokens,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=backbone.pad_id,
        eos_token_id=backbone.eos_id,
    )
    return [backbone.decode(row.tolist()) for row in output]


@dataclass(frozen=True, slots=True)
class SentenceStore:
    """Sentences of every document in row order: offsets, text and token ids; word features when they are asked for."""

    segments: list[list[Segment]]
    ids: list[list[list[int]]]
    _features: dict[int, list[list[int]]] = field(default_factory=dict)

    def features(self, row: int) -> list[list[int]]:
        """Word features of each sentence of a document."""
        if row not in self._features:
            self._features[row] = [feature_ids(segment.text) for segment in self.segments[row]]
        return self._features[row]

    @classmethod
    def build(cls, model: MemoryModel, documents: Sequence[Document]) -> SentenceStore:
        """Split and tokenise the documents once; scores of the segments are zero."""
        segments = [
            [Segment(document.id, span.start, span.end, span.text, 0.0) for span in split_sentences(document.text)]
            for document in documents
        ]
        ids = [[model.backbone.encode(segment.text) for segment in row] for row in segments]
        return cls(segments, ids)
