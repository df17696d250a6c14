"""Routing fused with another system's ranking of documents."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zrag_core.baselines.hybrid import reciprocal_rank_fusion
from zrag_core.baselines.ranking import DEPTH
from zrag_core.corpus.types import Document, Question
from zrag_core.evidence import EvidenceSystem


class RankFusion:
    """Reorders the documents of a routing by reciprocal-rank fusion with what another system ranks.

    The fusion yields an order and no probabilities, and its scores are all but equal. So the document in the r-th place
    of the fused order gets the r-th largest of the router's probabilities: how sure the routing is stays as it was, and
    the weights that were fitted on it still hold.

    Args:
        other: ranks the same documents; its evidence is of no interest.
        documents: in row order of Z.
        rrf_k: constant of the fusion.
    """

    def __init__(self, other: EvidenceSystem, documents: Sequence[Document], *, rrf_k: int):
        self._other = other
        self._rows = {document.id: row for row, document in enumerate(documents)}
        self._k = rrf_k

    def __call__(self, texts: Sequence[str], log_p: torch.Tensor) -> torch.Tensor:
        """log P(document | query) [B, N] of B queries, handed to the documents in their fused order."""
        found = self._other.retrieve([Question(str(i), text) for i, text in enumerate(texts)])
        values, routed = log_p.sort(dim=1, descending=True, stable=True)
        fused = torch.empty_like(log_p)
        for i, (item, rows) in enumerate(zip(found, routed.tolist(), strict=True)):
            others = [self._rows[document_id] for document_id in item.document_ids]
            best = [row for row, _ in reciprocal_rank_fusion([rows[:DEPTH], others], self._k)]
            order = list(dict.fromkeys([*best, *rows]))
            fused[i, torch.tensor(order, device=log_p.device)] = values[i]
        return fused
