"""The evidence system of a pretrained LLM's memory: words and meanings choose sentences, the LLM ranks them.

The LLM reads a sentence from its slots and says how likely the question is about it, log P(query | title, slots)
(query likelihood: Ponte & Croft 1998; with a pretrained LLM, Sachan et al. 2022, arXiv 2204.07496).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.architecture.memory_tables import KEYS
from zrag_core.model.architecture.sentence_features import (
    FIRST_CHOICE,
    OWN_WORDS,
    RANKING,
    SENTENCE_FEATURES,
    VERBATIM,
    SentenceFeatures,
    confidence,
    floor_log,
    language_question_features,
)
from zrag_core.model.architecture.slot_reader import Line
from zrag_core.model.inference.memory_system import Queries, known_log_p
from zrag_core.model.inference.routing import Depth, Routed, keep_best, keep_rows, route_again
from zrag_core.model.inference.sentence_ranking import Candidates, ReadPair, ReadSpan
from zrag_core.model.inference.separated_system import SeparatedSystem
from zrag_core.settings import DecodingSettings
from zrag_core.settings.backbone import GEMMA3

_TENS = 10.0
_READ = 8  # sentences read at once; more are slower, since all are as wide as the longest
_JUDGED = 16  # questions judged at once
_LINES = 4  # sentences that a question is judged by
# Sentences that are read at first: keys that were distilled on English choose worse in Korean (experiment 32).
_USUALLY_READ_FIRST, _READ_FIRST = 16, {GEMMA3: 64}
UNSURE = 0.55  # where refusal usually begins; less is a reason to read as many sentences again
_LIKELIHOOD, _PRIOR, _ANSWERS, _RELEVANCE = (
    SENTENCE_FEATURES.index(name) for name in ("likelihood", "prior", "answers", "relevance")
)


def sentences_read_first(settings: DecodingSettings, backbone: str) -> int:
    """Sentences that are read for a question, before any are read because none of them looks like an answer."""
    return settings.read_sentences or _READ_FIRST.get(backbone, _USUALLY_READ_FIRST)


class LanguageSystem(SeparatedSystem):
    """Ranks sentences by what a pretrained LLM says of the question after reading them.

    Of all sentences of the routed documents the best `decoding.read_sentences` by words and meaning are read, and as
    many again where none of these looks like an answer. In its own words the system chooses without the sentences'
    words, which are no part of Z.
    """

    @property
    def _model(self) -> LanguageMemory:
        model = self.checkpoint.model
        assert isinstance(model, LanguageMemory)
        return model

    # Whether a sentence answers is judged by the likelihood of the question; written out, a refusal loses answers.
    least_tokens = 1

    @property
    def _read_first(self) -> int:
        return sentences_read_first(self.settings, self._model.backbone.source)

    def ranking_weights(self) -> torch.Tensor:
        """Weights [F] of the sentence features."""
        return self._stage(RANKING)

    def _stage(self, stage: int) -> torch.Tensor:
        weights: torch.Tensor = self._model.ranking[OWN_WORDS if self.free else VERBATIM, stage].cpu()
        return weights

    def _confidence(self, candidates: Candidates, known: torch.Tensor) -> float | None:
        weights = self._model.confidence_weights()
        if weights is None:
            return None
        return float(confidence(language_question_features(known, candidates.features, candidates.scores), weights))

    def _route_and_read(self, texts: Sequence[str]) -> tuple[list[Candidates], Routed, Queries]:
        model = self._model
        asked = [model.backbone.encode(text, model.query_tokens) for text in texts]
        log_p, null_p = self._first_routing(texts, asked)
        routed = keep_best(log_p, null_p, self._width)
        queries = self._one_step(asked, routed)
        chosen = [own.split(self._read_first) for own in self._choose(texts, queries, routed)]
        found = self._read_and_rank(asked, routed, [own for own, _ in chosen])
        if self.settings.steps == 2 and len(self.checkpoint.documents) > 1:
            found, routed = self._second_step(texts, asked, log_p, routed, found)
            queries = self._one_step(asked, routed)
            self._judge(asked, routed, found)
        else:
            self._judge(asked, routed, found)
            found = self._look_again(asked, routed, found, [rest for _, rest in chosen])
        return found, routed, queries

    def _look_again(
        self, asked: list[list[int]], routed: Routed, found: list[Candidates], others: Sequence[Candidates]
    ) -> list[Candidates]:
        """Read the others too where nothing that was read looks like an answer."""
        sure = [self._confidence(own, known_log_p(routed, i)) if own.segments else None for i, own in enumerate(found)]
        again = [i for i, own in enumerate(sure) if own is not None and own < UNSURE and others[i].segments]
        more = [own if i in again else own.at(()) for i, own in enumerate(others)]
        self._read_sentences(asked, routed, more, [()] * len(more))
        for i in again:
            found[i] = self._ranked(found[i].followed_by(more[i]))
        self._judge(asked, routed, [own if i in again else own.at(()) for i, own in enumerate(found)])
        return found

    def _second_step(
        self,
        texts: Sequence[str],
        asked: list[list[int]],
        log_p: torch.Tensor,
        routed: Routed,
        found: Sequence[Candidates],
    ) -> tuple[list[Candidates], Routed]:
        """Route again with the best sentence behind the question, and rank what else there is by how likely the
        question is after both (the likelihood of a path of passages: Khalifa et al. 2023, arXiv 2205.12650).

        Args:
            log_p: [B, N] routing of the first step.
        """
        model, k = self._model, self.settings.routed_documents
        leads = [own.best() for own in found]
        rows = [int(routed.rows[i, own.places[0] if own.segments else 0]) for i, own in enumerate(leads)]
        words = [own.segments[0].text if own.segments else "" for own in leads]
        if self.free:
            words = self._write(self._one_step(asked, routed), routed, leads, most_spans=1)
        longer = [f"{text} {own}" for text, own in zip(texts, words, strict=True)]
        second = [model.backbone.encode(text, 2 * model.query_tokens) for text in longer]
        again = route_again(model, log_p, routed.null_p, longer, second, rows, Depth(self._width, k))
        again = keep_rows(again, rows, k)
        queries = [
            [second[i] if later else own for later in again.second[i, :k].tolist()] for i, own in enumerate(asked)
        ]
        leads = [own.moved(int((again.rows[i] == rows[i]).nonzero()[0])) for i, own in enumerate(leads)]
        chosen = [own.split(self._read_first)[0] for own in self._choose(texts, queries, again)]
        others = [own.without(lead) for own, lead in zip(chosen, leads, strict=True)]
        before = [self._lines([(row, span.span) for span in own.spans]) for row, own in zip(rows, leads, strict=True)]
        others = self._read_and_rank(asked, again, others, before)
        return [lead.ahead_of(own) for lead, own in zip(leads, others, strict=True)], again

    def _read_and_rank(
        self,
        asked: Sequence[Sequence[int]],
        routed: Routed,
        chosen: Sequence[Candidates],
        before: Sequence[Sequence[Line]] | None = None,
    ) -> list[Candidates]:
        """What was chosen, read and best first; `before`: lines that are read before every sentence of a question."""
        self._read_sentences(asked, routed, chosen, before or [()] * len(chosen))
        return [self._ranked(own) for own in chosen]

    def _choose(self, texts: Sequence[str], queries: Queries, routed: Routed) -> list[Candidates]:
        """The sentences of each question that are worth reading."""
        pairs = [[ReadPair(i, p, int(routed.rows[i, p])) for p in range(len(own))] for i, own in enumerate(queries)]
        flat = [pair for own in pairs for pair in own]
        features = iter(self._sentence_features(texts, queries, flat, routed) if flat else ())
        return [self._first_choice([(pair, next(features)) for pair in own]) for own in pairs]

    def _first_choice(self, read: Sequence[tuple[ReadPair, list[SentenceFeatures]]]) -> Candidates:
        """The sentences of one question that are worth reading, by words and meaning, best first: twice as many as are
        read at first."""
        segments, places, spans, rows = [], [], [], []
        for pair, features in read:
            segments += self._sentences.segments[pair.row]
            places += [pair.place] * len(features)
            spans += [ReadSpan(pair.place, span, 0.0) for span in self._sentences.spans[pair.row]]
            rows += features
        stacked = torch.tensor(rows).reshape(-1, len(SENTENCE_FEATURES))
        scores = stacked @ self._stage(FIRST_CHOICE)
        best = scores.topk(min(2 * self._read_first, len(scores))).indices.tolist()
        chosen = [[own[j] for j in best] for own in (segments, places, spans)]
        return Candidates(chosen[0], chosen[1], stacked[best], scores[best], chosen[2])

    @torch.no_grad()
    def _read_sentences(
        self,
        asked: Sequence[Sequence[int]],
        routed: Routed,
        found: Sequence[Candidates],
        before: Sequence[Sequence[Line]],
    ) -> None:
        """Fill in what the LLM says of each question, alone and after each of its sentences.

        Args:
            before: lines that are read before every sentence of a question.
        """
        model = self._model
        flat = [(i, j, span) for i, own in enumerate(found) for j, span in enumerate(own.spans)]
        flat.sort(key=lambda item: len(self._sentences.ids[int(routed.rows[item[0], item[2].place])][item[2].span]))
        for start in range(0, len(flat), _READ):
            part = flat[start : start + _READ]
            lines = self._lines([(int(routed.rows[i, span.place]), span.span) for i, _, span in part])
            passages = [[*before[i], line] for (i, _, _), line in zip(part, lines, strict=True)]
            likelihoods, odds = model.read_questions(passages, [asked[i] for i, _, _ in part])
            for (i, j, _), value, own_odds in zip(part, likelihoods.tolist(), odds.tolist(), strict=True):
                found[i].features[j, _LIKELIHOOD] = value / _TENS
                found[i].features[j, _RELEVANCE] = own_odds
        usable = [i for i, own in enumerate(found) if own.spans]
        if usable:
            priors = model.question_prior([asked[i] for i in usable]).tolist()
            for i, prior in zip(usable, priors, strict=True):
                found[i].features[:, _PRIOR] = prior / _TENS

    def _lines(self, places: Sequence[tuple[int, int]]) -> list[Line]:
        """Sentences, given as row and span, as the LLM reads them."""
        if not places:
            return []
        titles = self._model.titles([row for row, _ in places])
        return [Line(*own) for own in zip(titles, self._vectors(places), strict=True)]

    @torch.no_grad()
    def _judge(self, asked: Sequence[Sequence[int]], routed: Routed, ranked: Sequence[Candidates]) -> None:
        """Fill in whether the LLM, after the best sentences of each question, would quote one of them."""
        usable = [i for i, own in enumerate(ranked) if own.spans]
        for start in range(0, len(usable), _JUDGED):
            part = usable[start : start + _JUDGED]
            places = [[(int(routed.rows[i, s.place]), s.span) for s in ranked[i].spans[:_LINES]] for i in part]
            sentences = [self._vectors(own) for own in places]
            found = self._model.answer_probability(sentences, [asked[i] for i in part])
            for i, value in zip(part, floor_log(found).tolist(), strict=True):
                ranked[i].features[:, _ANSWERS] = value

    def _vectors(self, places: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """What the LLM reads of sentences, given as row and span."""
        return self._model.vectors(*self._slots([row for row, _ in places], [span for _, span in places]))

    def _ranked(self, own: Candidates) -> Candidates:
        """What was read, best first."""
        scores = own.features @ self._stage(RANKING)
        order = torch.argsort(scores, descending=True, stable=True)
        ranked = replace(own, scores=scores).at(order.tolist())
        spans = [span._replace(log_p=float(score)) for span, score in zip(ranked.spans, ranked.scores, strict=True)]
        return replace(ranked, spans=spans)

    def _sentence_features(
        self, texts: Sequence[str], queries: Queries, pairs: Sequence[ReadPair], routed: Routed
    ) -> list[list[SentenceFeatures]]:
        model = self._model
        asked: dict[tuple[int, ...], int] = {}
        for pair in pairs:
            asked.setdefault(tuple(queries[pair.question][pair.place]), len(asked))
        meanings = model.meanings(list(asked))  # [Q, k]
        find = []
        for pair in pairs:
            meaning = meanings[asked[tuple(queries[pair.question][pair.place])]]
            find.append((model.held.tables[KEYS].vectors([pair.row])[0] @ meaning).tolist())
        return self._beside_words(texts, pairs, routed, find, [0.0] * len(pairs))
