"""From questions to documents: routing in one step or two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.separated_memory import SeparatedMemory

_FIRST_STEP = 0.9  # share of the first step in the mixture (docs/experiments.md, 15)


class Depth(NamedTuple):
    """How many documents of a routing are ranked, and how many of these are read."""

    ranked: int
    read: int


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
    return keep_best(*model.route(texts, queries), k)


def keep_best(log_p: torch.Tensor, null_p: torch.Tensor, k: int) -> Routed:
    """The best min(k, N) documents of a routing in one step: log P(document | query) [B, N] and P(null) [B]."""
    best, rows = log_p.topk(min(k, log_p.shape[1]), dim=-1)
    return Routed(rows, best, null_p, torch.zeros_like(rows, dtype=torch.bool))


@torch.no_grad()
def route_again(
    model: SeparatedMemory,
    first: torch.Tensor,
    null_p: torch.Tensor,
    texts: Sequence[str],
    queries: Sequence[Sequence[int]],
    sources: Sequence[int],
    depth: Depth,
) -> Routed:
    """Merge a first routing with a second one, whose queries are conditioned on the first evidence.

    The second step asks where the evidence leads, so the document that it came from is left out of it. A document's
    probability is a mixture of both steps', in which the first weighs more: what the question names comes first. The
    document whose title question and evidence name best is always read, in the last place if in no other: evidence
    leads on by names, and how much a title counts was fitted on questions that need no second step.

    Args:
        first: [B, N] log probabilities of the first step.
        null_p: [B] probability of the null document in the first step.
        texts, queries: the second step's queries.
        sources: row that each query's first evidence came from.
        depth: how many documents are kept, and read.
    """
    scores = model.routing_scores(texts, queries)[:, :-1].float()  # [B, N]
    titles = model.held.document_keys.title_scores(texts)
    own = torch.arange(len(sources)), torch.tensor(sources, device=scores.device)
    scores[own] = titles[own] = float("-inf")
    again = torch.log_softmax(scores, dim=-1) if first.shape[1] > 1 else scores
    named, led_to = first + math.log(_FIRST_STEP), again + math.log(1 - _FIRST_STEP)
    both = torch.logaddexp(named, led_to)  # [B, N]
    rows = both.topk(min(max(depth), both.shape[1]), dim=-1).indices
    kept = min(max(depth.read, 2), rows.shape[1])  # where one document is read, that is the best one
    _keep_among(rows, titles.argmax(1).tolist(), kept, kept - 1)
    return Routed(rows, both.gather(1, rows), null_p, (led_to > named).gather(1, rows))


def keep_rows(routed: Routed, rows: Sequence[int], k: int) -> Routed:
    """The routing with one row of each query among its first k documents: before the last one, if in no other place."""
    kept = routed.rows.clone()
    _keep_among(kept, rows, k, max(0, k - 2))
    changed = kept != routed.rows
    return Routed(kept, routed.log_p, routed.null_p, routed.second & ~changed)


def _keep_among(ranking: torch.Tensor, rows: Sequence[int], first: int, place: int) -> None:
    """Put one row of each query at a place of its ranking [B, k], in place, unless it is among the first ones.

    A row that stands further down changes places with the one there, so that none is ranked twice.
    """
    for own, row in zip(ranking, rows, strict=True):
        found = own.tolist()
        if row not in found[:first]:
            if row in found:
                own[found.index(row)] = found[place]
            own[place] = row
