"""Evidence from a memory of the policy `joint`: one routing, then sentences by their likelihood under all slots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from zrag_core.model.architecture.sentence_features import SentenceFeatures, floor_log, plain_weights
from zrag_core.model.inference.decoder import sentence_likelihoods
from zrag_core.model.inference.memory_system import MemorySystem, Queries
from zrag_core.model.inference.routing import Routed, keep_best
from zrag_core.model.inference.sentence_ranking import Candidates, ReadPair


class JointSystem(MemorySystem):
    """Ranks sentences by log P(document | query) + l(sentence | query, slots) - w l(sentence | title)."""

    @cached_property
    def _priors(self) -> dict[int, list[float]]:
        return {}

    def ranking_weights(self) -> torch.Tensor:
        """Weights [F] of the sentence features: nothing is fitted."""
        return plain_weights(self.settings.prior_weight)

    def _confidence(self, candidates: Candidates, known: torch.Tensor) -> float | None:
        return None

    def _reading_order(self, candidates: Candidates) -> list[int]:
        return []  # the routing decides alone

    def _route_and_read(self, texts: Sequence[str]) -> tuple[list[Candidates], Routed, Queries]:
        model = self.checkpoint.model
        questions = [model.backbone.encode(text, model.query_tokens) for text in texts]
        routed = keep_best(*self._first_routing(texts, questions), self._width)
        queries = self._one_step(questions, routed)
        return self._read(texts, queries, routed), routed, queries

    def _sentence_features(
        self, texts: Sequence[str], queries: Queries, pairs: Sequence[ReadPair], routed: Routed
    ) -> list[list[SentenceFeatures]]:
        store = self._sentences
        flat = [(pair, number) for pair in pairs for number in range(len(store.segments[pair.row]))]
        z, used = self._slots([pair.row for pair, _ in flat], [store.spans[pair.row][number] for pair, number in flat])
        asked = [queries[pair.question][pair.place] for pair, _ in flat]
        sentences = [store.ids[pair.row][number] for pair, number in flat]
        values = iter(sentence_likelihoods(self.checkpoint.model, z, used, asked, sentences).tolist())
        return [
            [
                SentenceFeatures(
                    route=float(floor_log(routed.log_p[pair.question, pair.place])),
                    likelihood=next(values),
                    prior=prior,
                )
                for prior in self._prior(pair.row)
            ]
            for pair in pairs
        ]

    def _prior(self, row: int) -> list[float]:
        """Likelihood of each sentence of a document when only its title is asked for; made once per document."""
        if row not in self._priors:
            ids = self._sentences.ids[row]
            title = self.checkpoint.model.backbone.encode(self.checkpoint.documents[row].title)
            z, used = self._slots([row] * len(ids), self._sentences.spans[row])
            found = sentence_likelihoods(self.checkpoint.model, z, used, [title] * len(ids), ids)
            self._priors[row] = found.tolist()
        return self._priors[row]
