"""From questions to evidence: route to documents, find their spans, and read the slots of these.

Constrained decoding scores every sentence of the routed documents exactly (not by a greedy trie,
which would commit on the first token), so the evidence is verbatim corpus text with its offsets.
Free decoding is the model's own words. Both read one span at a time; under the policy `joint` a
document is a single span.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from zrag_core.corpus.types import Document
from zrag_core.evidence import Segment
from zrag_core.model.architecture.encoder import sentences_per_span
from zrag_core.model.architecture.features import feature_ids
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.slot_router import SlotRouter
from zrag_core.model.architecture.spans import span_slots
from zrag_core.text import split_sentences

_SEQUENCES = 256
_FIRST_STEP = 0.9  # share of the first step in the mixture (docs/experiments.md, 15)


@dataclass(frozen=True, slots=True)
class Routed:
    """Documents chosen for each of B queries, best first.

    Attributes:
        rows: [B, k] rows of Z.
        log_p: [B, k] log P(document | query) over all documents in memory.
        null_p: [B] probability of the null document ("not in memory") against the best document, which, unlike that
            against all of them, does not fall as the memory grows; 0 where the policy has none.
        second: [B, k] bool, documents that the second step led to.
    """

    rows: torch.Tensor
    log_p: torch.Tensor
    null_p: torch.Tensor
    second: torch.Tensor


@torch.no_grad()
def route(model: MemoryModel, texts: Sequence[str], queries: Sequence[Sequence[int]], k: int) -> Routed:
    """Score all N documents for B queries and keep the best min(k, N)."""
    return keep_best(*route_all(model, texts, queries), k)


def keep_best(log_p: torch.Tensor, null_p: torch.Tensor, k: int) -> Routed:
    """The best min(k, N) documents of a routing in one step: log P(document | query) [B, N] and P(null) [B]."""
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
    if scores.shape[1] == n:
        null_p = scores.new_zeros(len(scores))
    else:
        null_p = torch.softmax(torch.stack([scores[:, :n].amax(1), scores[:, n]]), dim=0)[1]
    return torch.log_softmax(scores[:, :n], dim=-1), null_p


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
    probability is a mixture of both steps', in which the first weighs more: what the question names comes first. The
    document whose title question and evidence name best is always kept, in the last place if in no other: evidence
    leads on by names, and how much a title counts was fitted on questions that need no second step.

    Args:
        first: [B, N] log probabilities of the first step.
        null_p: [B] probability of the null document in the first step.
        texts, queries: the second step's queries.
        sources: row that each query's first evidence came from.
        k: documents to keep.
    """
    assert isinstance(model.router, SlotRouter), "the policy `joint` reads in one step"
    parts = model.routing_parts(texts, queries).float()
    own = torch.arange(len(sources)), torch.tensor(sources, device=parts.device)
    scores, titles = model.router.combine(parts), parts[0]
    scores[own] = titles[own] = float("-inf")
    again = torch.log_softmax(scores, dim=-1) if first.shape[1] > 1 else scores
    named, led_to = first + math.log(_FIRST_STEP), again + math.log(1 - _FIRST_STEP)
    both = torch.logaddexp(named, led_to)
    rows = both.topk(min(k, both.shape[1]), dim=-1).indices
    titled = titles.argmax(1)
    left_out = ~(rows == titled[:, None]).any(1)
    rows[left_out, -1] = titled[left_out]
    return Routed(rows, both.gather(1, rows), null_p, (led_to > named).gather(1, rows))


@dataclass(frozen=True, slots=True)
class Found:
    """Where in P documents what P queries look for may stand.

    Attributes:
        answers: [P] log of the probability that the document says it at all.
        log_p: [P, m] log P(span | query, document, the document says it); very low where there is no such span.
    """

    answers: torch.Tensor
    log_p: torch.Tensor


@torch.no_grad()
def find(model: MemoryModel, queries: Sequence[Sequence[int]], z: torch.Tensor, spans: torch.Tensor) -> Found:
    """Look for what P queries ask in P documents z [P, m, d], one each."""
    logits = model.find(queries, z, spans).float()
    log_p = torch.log_softmax(logits[:, :-1], -1)
    # The difference to the null span, kept apart so that log(1 - p) does not lose it where p is close to one.
    answers = F.logsigmoid(torch.logsumexp(logits[:, :-1], -1) - logits[:, -1])
    return Found(answers, log_p)


@torch.no_grad()
def read_sentences(
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
    return _greedy(model, model.prompt(z, used, queries), max_new_tokens, min_new_tokens)


@torch.no_grad()
def reconstruct(model: MemoryModel, z: torch.Tensor, spans: torch.Tensor, max_new_tokens: int) -> str:
    """Greedy reconstruction of one document from its slots z [m, d] alone, span by span."""
    n = int(spans.max()) + 1
    if n == 0:
        return ""
    prefix = span_slots(z.expand(n, -1, -1), spans.expand(n, -1), range(n))
    return " ".join(_greedy(model, model.write_prompt(*prefix), max_new_tokens))


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


class _Lazy(Sequence):
    """A list whose items are made when they are first asked for."""

    def __init__(self, length: int, make: Callable[[int], Any]):
        self._length, self._make = length, make
        self._made: dict[int, Any] = {}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> Any:
        row = range(self._length)[row]  # negative rows, and an IndexError behind the end
        if row not in self._made:
            self._made[row] = self._make(row)
        return self._made[row]


@dataclass(frozen=True, slots=True)
class SentenceStore:
    """Sentences of every document in row order; a document is split when it is first read.

    Attributes:
        segments: offsets and text.
        ids: token ids.
        spans: number of the span that keeps each sentence.
    """

    segments: Sequence[list[Segment]]
    ids: Sequence[list[list[int]]]
    spans: Sequence[list[int]]
    _features: dict[int, list[list[int]]] = field(default_factory=dict)

    def features(self, row: int) -> list[list[int]]:
        """Word features of each sentence of a document."""
        if row not in self._features:
            self._features[row] = [feature_ids(segment.text) for segment in self.segments[row]]
        return self._features[row]

    @classmethod
    def build(cls, model: MemoryModel, documents: Sequence[Document]) -> SentenceStore:
        """The sentences of `documents`; scores of the segments are zero."""
        n, slots = len(documents), model.z.shape[1]

        def segments_of(row: int) -> list[Segment]:
            document = documents[row]
            return [Segment(document.id, s.start, s.end, s.text, 0.0) for s in split_sentences(document.text)]

        segments = _Lazy(n, segments_of)

        def spans_of(row: int) -> list[int]:
            length = len(segments[row])
            run = length if model.encoder is None else sentences_per_span(length, slots)
            return [number // run for number in range(length)]

        ids = _Lazy(n, lambda row: [model.backbone.encode(segment.text) for segment in segments[row]])
        return cls(segments, ids, _Lazy(n, spans_of))
