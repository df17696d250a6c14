"""Training examples: which query reads which document's evidence, tokenised once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from zrag_core.corpus.self_study import self_study_query
from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.sentences import split_sentences
from zrag_core.settings import JointSettings


@dataclass(frozen=True, slots=True)
class ReadExample:
    """One query with the evidence that one document holds for it.

    Attributes:
        text: the query, for the lexical router.
        query: its token ids.
        row: row of Z that is read.
        gold_rows: all rows that answer the query (routing may pick any of them).
        evidence: target token ids, ending in EOS.
    """

    text: str
    query: list[int]
    row: int
    gold_rows: tuple[int, ...]
    evidence: list[int]


@dataclass
class TrainingSet:
    """What the joint policy trains on: targets of training questions, and the documents themselves.

    Attributes:
        examples: evidence targets of training questions.
        study: (row, sentence) that self-study may ask about; held-out sentences are not among them.
        sentences: sentences of every document, as text.
        sentence_ids: the same as token ids.
        truncated: how many questions and targets were cut to the configured lengths.
        unplaced: targets whose evidence stands in none of their documents (left out).
    """

    documents: Sequence[Document]
    examples: list[ReadExample]
    study: list[tuple[int, str]]
    sentences: list[list[str]]
    sentence_ids: list[list[list[int]]]
    truncated: Counter[str] = field(default_factory=Counter)
    unplaced: int = 0


def build_training_set(
    documents: Sequence[Document],
    targets: Sequence[EvidenceTarget],
    backbone: Backbone,
    settings: JointSettings,
    *,
    split: str = "train",
) -> TrainingSet:
    """Tokenise documents and the targets of one split.

    A target over several documents (two-hop) becomes one example for each document, whose evidence
    is the part of the target that stands in it. Self-study targets say which sentences may be studied;
    their queries are drawn afresh in training. Targets of other splits are not used.
    """
    rows = {document.id: row for row, document in enumerate(documents)}
    sentences = [[span.text for span in split_sentences(document.text)] for document in documents]
    # A space before each sentence but the first keeps token ids those of running text.
    sentence_ids = [[backbone.encode(f" {text}" if n else text) for n, text in enumerate(texts)] for texts in sentences]
    own = [t for t in targets if t.method == "self_study" and t.split == split and t.document_ids[0] in rows]
    study = list(dict.fromkeys((rows[target.document_ids[0]], target.evidence) for target in own))
    data = TrainingSet(documents, [], study, sentences, sentence_ids)
    for target in targets:
        if target.split != split or target.method == "self_study":
            continue
        gold = tuple(rows[identifier] for identifier in target.document_ids if identifier in rows)
        parts = _evidence_by_row(target.evidence, gold, sentences)
        data.unplaced += not parts
        for row, evidence in parts.items():
            data.truncated["questions"] += len(backbone.encode(target.query)) > settings.query_tokens
            data.truncated["targets"] += len(backbone.encode(evidence)) > settings.evidence_tokens
            data.examples.append(make_example(backbone, settings, target.query, row, gold, evidence))
    return data


def make_example(
    backbone: Backbone, settings: JointSettings, query: str, row: int, gold: tuple[int, ...], evidence: str
) -> ReadExample:
    """Tokenise one example, cut to the configured lengths."""
    evidence_ids = backbone.encode(evidence, settings.evidence_tokens)
    return ReadExample(
        query, backbone.encode(query, settings.query_tokens), row, gold, [*evidence_ids, backbone.eos_id]
    )


def sample_self_study(
    data: TrainingSet, backbone: Backbone, settings: JointSettings, rng: random.Random
) -> ReadExample:
    """A fresh self-study example: title and words of a random sentence -> that sentence."""
    row, evidence = rng.choice(data.study)
    query = self_study_query(data.documents[row], evidence, rng)
    return make_example(backbone, settings, query, row, (row,), evidence)


def mask_query(example: ReadExample, backbone: Backbone, most: float, rng: random.Random) -> ReadExample:
    """The example with up to `most` of its query's tokens masked, so that no single word decides."""
    rate = rng.uniform(0, most)
    query = [backbone.mask_id if rng.random() < rate else token for token in example.query]
    return replace(example, query=query)


def rows_read(batch: Sequence[ReadExample], n_documents: int, wrong: float, rng: random.Random) -> list[int]:
    """The row that each query reads: its own, or in a share `wrong` of them a random one that does not answer it."""
    if not wrong:
        return [example.row for example in batch]
    rows = []
    for example in batch:
        others = [row for row in range(n_documents) if row not in example.gold_rows] if rng.random() < wrong else []
        rows.append(rng.choice(others) if others else example.row)
    return rows


def sample_reconstruction(
    data: TrainingSet, backbone: Backbone, settings: JointSettings, rng: random.Random
) -> tuple[int, list[int], list[int]]:
    """A document to reconstruct: row, masked input ids, target ids.

    The sentences are shuffled, so that position in the text tells nothing, and taken until the
    token limit is reached; over many steps every sentence of a long document gets its turn.
    """
    row = rng.randrange(len(data.documents))
    order = rng.sample(data.sentence_ids[row], len(data.sentence_ids[row]))
    target: list[int] = []
    for ids in order:
        if target and len(target) + len(ids) > settings.evidence_tokens:
            break
        target.extend(ids)
    target = [*target[: settings.evidence_tokens], backbone.eos_id]
    masked = [backbone.mask_id if rng.random() < settings.token_dropout else token for token in target]
    return row, masked, target


def _evidence_by_row(evidence: str, gold: tuple[int, ...], sentences: list[list[str]]) -> dict[int, str]:
    if len(gold) == 1:
        return {gold[0]: evidence}
    parts: dict[int, list[str]] = {}
    for span in split_sentences(evidence):
        for row in gold:
            if any(span.text in sentence for sentence in sentences[row]):
                parts.setdefault(row, []).append(span.text)
                break
    return {row: " ".join(texts) for row, texts in parts.items()}
