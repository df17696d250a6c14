"""The evidence system of the policy `separated`: routes in one or two steps and computes the features of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from zrag_core.model.architecture.sentence_features import (
    SentenceFeatures,
    confidence,
    floor_log,
    question_features,
    word_features,
)
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.architecture.word_features import feature_ids
from zrag_core.model.inference.memory_system import MemorySystem, Queries
from zrag_core.model.inference.routing import Depth, Routed, keep_best, route_again
from zrag_core.model.inference.sentence_ranking import Candidates, ReadPair


@dataclass(frozen=True, slots=True)
class SpanProbabilities:
    """Where in P documents what P queries look for may stand.

    Attributes:
        answers: [P] log of the probability that the document says it at all.
        log_p: [P, m] log P(span | query, document, the document says it); very low where there is no such span.
    """

    answers: torch.Tensor
    log_p: torch.Tensor


@torch.no_grad()
def span_probabilities(
    model: SeparatedMemory, queries: Sequence[Sequence[int]], z: torch.Tensor, spans: torch.Tensor
) -> SpanProbabilities:
    """Look for what P queries ask in P documents z [P, m, d], one each."""
    logits = model.span_logits(queries, z, spans).float()  # [P, m + 1]
    log_p = torch.log_softmax(logits[:, :-1], -1)
    # The difference to the null span, kept apart so that log(1 - p) does not lose it where p is close to one.
    answers = F.logsigmoid(torch.logsumexp(logits[:, :-1], -1) - logits[:, -1])
    return SpanProbabilities(answers, log_p)


class SeparatedSystem(MemorySystem):
    """Ranks sentences by the probabilities of document and span and the words that query and sentence share.

    With `steps` 2 it routes once more with question and first evidence. That step is the model's alone, fusion or not:
    whatever shares words with question and evidence together is rarely where the evidence leads.
    """

    @property
    def _idf(self) -> np.ndarray:
        return self._model.held.idf_array

    @property
    def _model(self) -> SeparatedMemory:
        model = self.checkpoint.model
        assert isinstance(model, SeparatedMemory)
        return model

    def ranking_weights(self) -> torch.Tensor:
        """Weights [F] of the sentence features, fitted with the skill."""
        return self._model.ranking.cpu()

    def _confidence(self, candidates: Candidates, known: torch.Tensor) -> float | None:
        weights = self._model.confidence_weights()
        if weights is None:
            return None
        return float(confidence(question_features(known, candidates.features, candidates.scores), weights))

    def _reading_order(self, candidates: Candidates) -> list[int]:
        if self.free:
            return [span.place for span in candidates.spans]
        return [candidates.places[j] for j in candidates.order()]

    def _route_and_read(self, texts: Sequence[str]) -> tuple[list[Candidates], Routed, Queries]:
        model, k = self._model, self.settings.routed_documents
        encode = model.backbone.encode
        questions = [encode(text, model.query_tokens) for text in texts]
        first, null_p = self._first_routing(texts, questions)
        if self.settings.steps == 1 or len(self.checkpoint.documents) < 2:
            routed = keep_best(first, null_p, self._width)
            queries = self._one_step(questions, routed)
        else:
            longer, sources = self._first_evidence(texts, questions, first, null_p)
            second = [encode(text, 2 * model.query_tokens) for text in longer]
            routed = route_again(model, first, null_p, longer, second, sources, Depth(self._width, k))
            queries = [
                [second[i] if later else question for later in routed.second[i, :k].tolist()]
                for i, question in enumerate(questions)
            ]
        return self._read(texts, queries, routed), routed, queries

    def _first_evidence(
        self, texts: Sequence[str], questions: list[list[int]], log_p: torch.Tensor, null_p: torch.Tensor
    ) -> tuple[list[str], list[int]]:
        """Each question with the best evidence of the document that it names behind it, and that document's row."""
        best, rows = log_p.max(1)
        routed = Routed(rows[:, None], best[:, None], null_p, torch.zeros_like(rows[:, None], dtype=torch.bool))
        queries = [[question] for question in questions]
        found = self._read(texts, queries, routed)
        if self.free:
            evidence = self._write(queries, routed, found, most_spans=1)
        else:
            evidence = [own.segments[int(own.scores.argmax())].text if own.segments else "" for own in found]
        return [f"{text} {first}" for text, first in zip(texts, evidence, strict=True)], rows.tolist()

    def _sentence_features(
        self, texts: Sequence[str], queries: Queries, pairs: Sequence[ReadPair], routed: Routed
    ) -> list[list[SentenceFeatures]]:
        model = self._model
        asked = [queries[pair.question][pair.place] for pair in pairs]
        found = span_probabilities(model, asked, *model.document_slots([pair.row for pair in pairs]))
        find, answers = floor_log(found.log_p).tolist(), floor_log(found.answers).tolist()
        return self._beside_words(texts, pairs, routed, find, answers)

    def _beside_words(
        self,
        texts: Sequence[str],
        pairs: Sequence[ReadPair],
        routed: Routed,
        find: Sequence[Sequence[float]],
        answers: Sequence[float],
    ) -> list[list[SentenceFeatures]]:
        """Features of the sentences of P pairs, words among them.

        Args:
            find: of every span of each pair's document.
            answers: of each pair's document.
        """
        route, second, idf = floor_log(routed.log_p).tolist(), routed.second.tolist(), self._idf
        bags = [feature_ids(text) for text in texts]
        features = []
        for pair, of_spans, own_answers in zip(pairs, find, answers, strict=True):
            i, place = pair.question, pair.place
            document = SentenceFeatures(route[i][place], float(second[i][place]), own_answers)
            bag, title = bags[i], self._sentences.titles[pair.row]
            own = zip(self._sentences.spans[pair.row], self._sentences.features(pair.row), strict=True)
            features.append(
                [document._replace(find=of_spans[span], **word_features(bag, title, words, idf)) for span, words in own]
            )
        return features
