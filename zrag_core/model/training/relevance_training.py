"""Fitting what the LLM's hidden states say of a sentence's relevance: on questions that were written for training.

A question's sentence stands against those of its own text that share most words with it, and against some of other
texts; a question that its text does not answer has only wrong ones, which teaches refusal.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from zrag_core.corpus.prose.asked import AskedSentence
from zrag_core.corpus.types import Document
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.architecture.sentence_features import word_overlap
from zrag_core.model.architecture.slot_reader import Line
from zrag_core.model.architecture.word_features import feature_ids, inverse_document_frequency
from zrag_core.sentences import split_sentences

_NEAR, _FAR = 5, 1  # wrong sentences of the same text, and of others
_OTHERS = 300  # sentences of other texts among which the far ones are looked for
_BATCH = 16
_LINES = 100  # batches between two lines of the log


class _Pair(NamedTuple):
    question: int
    title: str
    sentence: str
    right: bool


def fit_relevance(
    model: LanguageMemory,
    asked: Sequence[AskedSentence],
    documents: Mapping[str, Document],
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Fit the probe in place.

    Args:
        documents: by id, those that are asked about.
    """
    pairs = _pairs(asked, documents)
    log(f"relevance: {len(pairs):,} sentences beside {len(asked):,} questions")
    features = _features(model, pairs, [item.question for item in asked], log)
    right = torch.tensor([pair.right for pair in pairs])
    model.relevance.cpu().fit(features, right, torch.tensor([pair.question for pair in pairs]))
    model.relevance.to(model.device)


def _pairs(asked: Sequence[AskedSentence], documents: Mapping[str, Document]) -> list[_Pair]:
    split = {item.document_id: split_sentences(documents[item.document_id].text) for item in asked}
    everywhere = [(documents[name].title, span) for name, spans in split.items() for span in spans]
    bags = {span.reading: feature_ids(span.reading) for _, span in everywhere}
    idf = inverse_document_frequency(list(bags.values())).numpy()
    rng, pairs = random.Random("relevance"), []
    for number, item in enumerate(asked):
        words = feature_ids(item.question)

        def shared(reading: str, words: list[int] = words) -> float:
            return word_overlap(words, bags[reading], idf)

        title = documents[item.document_id].title
        gold = [span.reading for span in split[item.document_id] if span.text == item.sentence]
        wrong = [span.reading for span in split[item.document_id] if span.text != item.sentence]
        far = sorted(rng.sample(everywhere, min(_OTHERS, len(everywhere))), key=lambda own: -shared(own[1].reading))
        pairs += [_Pair(number, title, reading, True) for reading in gold[:1]]
        pairs += [_Pair(number, title, reading, False) for reading in sorted(wrong, key=lambda r: -shared(r))[:_NEAR]]
        pairs += [_Pair(number, name, span.reading, False) for name, span in far if span.text != item.sentence][:_FAR]
    return pairs


@torch.no_grad()
def _features(
    model: LanguageMemory, pairs: Sequence[_Pair], questions: Sequence[str], log: Callable[[str], None]
) -> torch.Tensor:
    encode = model.backbone.encode
    asked = [encode(question, model.query_tokens) for question in questions]
    ids = [encode(pair.sentence) for pair in pairs]
    order = sorted(range(len(pairs)), key=lambda n: len(ids[n]) + len(asked[pairs[n].question]))
    result = torch.zeros(len(pairs), model.relevance.units.in_features)
    for start in range(0, len(order), _BATCH):
        part = order[start : start + _BATCH]
        lines = [Line(model.slot_vectors(encode(pairs[n].title)), model.slot_vectors(ids[n])) for n in part]
        found = model.relevance_features([[line] for line in lines], [asked[pairs[n].question] for n in part])
        result[part] = found.cpu()
        if start % (_BATCH * _LINES) == 0:
            log(f"relevance: {start + len(part):,} of {len(pairs):,} sentences read")
    return result
