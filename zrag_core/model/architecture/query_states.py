"""Hidden states of queries, each computed once: one is asked of several documents, and routed before it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

Query = tuple[int, ...]
Computed = tuple[torch.Tensor, torch.Tensor]
"""States [B, 1 + T, H] of a marker and B queries behind it, and their mask [B, 1 + T]."""

Compute = Callable[[Sequence[Query]], Computed]


def states_of(queries: Sequence[Sequence[int]], compute: Compute, kept: dict[Query, torch.Tensor] | None) -> Computed:
    """The states of B queries, some of which may be the same.

    Args:
        queries: token ids.
        compute: makes the states of queries that differ.
        kept: those that are known, which the new ones are added to; None: none is kept.
    """
    numbers = {query: number for number, query in enumerate(dict.fromkeys(map(tuple, queries)))}
    distinct = list(numbers)
    states, mask = compute(distinct) if kept is None else _with_kept(distinct, compute, kept)
    if len(distinct) == len(queries):
        return states, mask
    each = torch.tensor([numbers[tuple(query)] for query in queries], device=states.device)
    return states[each], mask[each]


def _with_kept(queries: Sequence[Query], compute: Compute, kept: dict[Query, torch.Tensor]) -> Computed:
    missing = [query for query in queries if query not in kept]
    if missing:
        states, _ = compute(missing)
        # A query without tokens keeps the place of one, as padding gives it.
        kept.update((query, own[: 1 + max(1, len(query))]) for query, own in zip(missing, states, strict=True))
    states = pad_sequence([kept[query] for query in queries], batch_first=True)
    lengths = torch.tensor([1 + len(query) for query in queries], device=states.device)
    return states, (torch.arange(states.shape[1], device=states.device) < lengths[:, None]).long()
