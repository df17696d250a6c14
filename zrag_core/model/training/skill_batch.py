"""One step's worth of skill training: what is written, found, read, rebuilt and routed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.architecture.encoder import sentences_per_span
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.training.skill_data import SkillDocument, SkillSource
from zrag_core.sentences import split_sentences
from zrag_core.settings import SkillSettings

_FINDS_PER_READ = 4  # finding costs a query alone, and is what phrasings differ in
_LEAST_MASKED = 0.3  # share of the tokens of a sentence that is to be rebuilt
_RENAMED = (0.1, 1.0)  # share of a document's token types


@dataclass(frozen=True, slots=True)
class Example:
    """A sequence about one span of a step's document.

    Attributes:
        row: of the document.
        span: number of the span (of the sentence, while a batch is made); None where the document does not answer.
        given: token ids of the query; in rebuilding, of the sentence with most tokens masked, ending in EOS.
        target: token ids of the evidence or the sentence, ending in EOS; empty where nothing is generated.
    """

    row: int
    span: int | None
    given: list[int]
    target: list[int]


@dataclass(frozen=True)
class SkillBatch:
    """One step's worth of writing, finding, reading, rebuilding and routing.

    Attributes:
        stride: of the encoder in this step.
        slots: of a document in this step; more than usual where the stride is below the usual one.
        documents: what is written; row i of the step's memory is documents[i].
        sentences: token ids of their sentences.
        finds: queries with the span to find in a document, or None for the null span.
        reads: queries with the evidence to read.
        rebuilds: sentences to rebuild.
        queries: text and token ids of every routed query, with its row; len(documents) for "not in memory".
    """

    stride: int
    slots: int
    documents: list[Document]
    sentences: list[list[list[int]]]
    finds: list[Example]
    reads: list[Example]
    rebuilds: list[Example]
    queries: list[tuple[str, list[int], int]]


def make_batch(
    source: SkillSource,
    backbone: Backbone,
    settings: SkillSettings,
    rng: random.Random,
    *,
    slots: int,
    stride: int,
    level: int,
) -> SkillBatch:
    """Draw one batch.

    A few more documents are drawn than are written: questions about those are "not in memory". Questions that a
    document does not answer, or that are about another document, lead to its null span.

    Args:
        slots, stride: of the encoder.
        level: of the curriculum. At level 0 a slot keeps a single token, which is read by copying and learned in a
            hundred steps; every level adds a token per slot, up to the stride of real use.
    """
    n = settings.documents
    spare = max(1, round(n * settings.absent_share))
    drawn = source.draw(rng, n + spare, _FINDS_PER_READ * settings.questions)
    rng.shuffle(drawn)
    maker = _Maker(backbone, settings, rng)
    for item in drawn[:n]:
        maker.add(item)
    maker.lead_on()
    queries = [(q, maker.query(q), n) for item in drawn[n:] for q, _ in item.asked[:1]]
    # The full stride is what counts in the end, so it comes as often as all the others together.
    widest = min(1 + level, stride)
    distance = rng.choice((widest, rng.randint(1, widest)))
    if distance < stride:
        slots = max(slots, *(sum(-(-len(ids) // distance) for ids in document) for document in maker.sentences))
    return SkillBatch(
        stride=distance,
        slots=slots,
        documents=[item.document for item in maker.items],
        sentences=maker.sentences,
        finds=maker.in_spans(maker.finds, slots),
        reads=maker.in_spans(maker.reads, slots),
        rebuilds=maker.rebuilds(slots),
        queries=maker.queries + queries,
    )


class _Maker:
    """Collects the examples of a batch, document by document."""

    def __init__(self, backbone: Backbone, settings: SkillSettings, rng: random.Random):
        self.backbone, self.settings, self.rng = backbone, settings, rng
        self.items: list[SkillDocument] = []
        self.sentences: list[list[list[int]]] = []
        self.finds: list[Example] = []
        self.reads: list[Example] = []
        self.queries: list[tuple[str, list[int], int]] = []
        self._texts: list[list[str]] = []

    def query(self, text: str, times: int = 1) -> list[int]:
        """Token ids of a query; `times` the usual length where it is conditioned on a first evidence."""
        return self.backbone.encode(text, times * self.settings.query_tokens)

    def add(self, item: SkillDocument) -> None:
        """A document with its own questions."""
        backbone, settings, rng = self.backbone, self.settings, self.rng
        row = len(self.items)
        texts = [span.text for span in split_sentences(item.document.text)]
        sentences = sentence_ids(backbone, item.document.text, settings.document_tokens)
        asked = [(q, e) for q, e in item.asked if e in texts and texts.index(e) < len(sentences)]
        queries = [self.query(question) for question, _ in asked]
        renamed = rng.random() < settings.renamed_share
        if renamed:
            rename = _renaming([*sentences, *queries], backbone, rng)
            sentences = [rename(ids) for ids in sentences]
            queries = [rename(ids) for ids in queries]
        self.items.append(item)
        self.sentences.append(sentences)
        self._texts.append([] if renamed else texts[: len(sentences)])
        if asked:
            self.queries.append((asked[0][0], queries[0], row))
        for number, ((_, evidence), ids) in enumerate(zip(asked, queries, strict=True)):
            span = texts.index(evidence)
            if number < settings.questions:
                self.reads.append(Example(row, span, ids, self._ended(sentences[span])))
            if not renamed:  # words with another's meaning would teach finding the wrong things
                self.finds.append(Example(row, span, self._dropped(ids), []))
        if renamed:
            return
        for question, evidence in item.vague:
            if evidence in self._texts[row]:
                span = self._texts[row].index(evidence)
                self.finds.append(Example(row, span, self._dropped(self.query(question)), []))
        for question in item.unanswerable:
            if rng.random() < settings.unanswerable_share:
                self.finds.append(Example(row, None, self._dropped(self.query(question)), []))

    def lead_on(self) -> None:
        """Questions that lead from one document to another, and some asked of a wrong one."""
        rows = {item.document.id: row for row, item in enumerate(self.items)}
        for row, item in enumerate(self.items):
            for hop in item.two_hop[:1]:
                target = rows.get(hop.target)
                if target is None or hop.link not in self._texts[row] or hop.evidence not in self._texts[target]:
                    continue
                span = self._texts[row].index(hop.link)
                self.finds.append(Example(row, span, self._dropped(self.query(hop.question)), []))
                longer = self.query(f"{hop.question} {hop.link}", times=2)
                span = self._texts[target].index(hop.evidence)
                self.finds.append(Example(target, span, self._dropped(longer), []))
            other = self.rng.choice(self.items)
            if (
                self._texts[row]
                and other is not item
                and other.asked
                and self.rng.random() < self.settings.unanswerable_share
            ):
                question = self.rng.choice(other.asked)[0]
                self.finds.append(Example(row, None, self._dropped(self.query(question)), []))

    def in_spans(self, examples: Sequence[Example], slots: int) -> list[Example]:
        """Examples collected by sentence, by span of documents with this many slots."""
        runs = [sentences_per_span(len(document), slots) for document in self.sentences]
        return [e if e.span is None else replace(e, span=e.span // runs[e.row]) for e in examples]

    def rebuilds(self, slots: int) -> list[Example]:
        """Some spans of every document to rebuild."""
        examples = []
        for row, document in enumerate(self.sentences):
            run = sentences_per_span(len(document), slots)
            spans = range(-(-len(document) // run))
            for span in self.rng.sample(spans, min(self.settings.questions, len(spans))):
                target = self._ended([token for ids in document[span * run : (span + 1) * run] for token in ids])
                examples.append(Example(row, span, self._masked(target), target))
        return examples

    def _ended(self, ids: list[int]) -> list[int]:
        return [*ids[: self.settings.evidence_tokens], self.backbone.eos_id]

    def _masked(self, ids: list[int]) -> list[int]:
        rate = self.rng.uniform(_LEAST_MASKED, 1.0)
        return self._with_masks(ids, rate)

    def _dropped(self, ids: list[int]) -> list[int]:
        """A query with some tokens masked, so that no single word of a phrasing is relied on."""
        return self._with_masks(ids, self.rng.uniform(0.0, self.settings.query_mask))

    def _with_masks(self, ids: list[int], rate: float) -> list[int]:
        return [self.backbone.mask_id if self.rng.random() < rate else token for token in ids]


def _renaming(
    sequences: Sequence[Sequence[int]], backbone: Backbone, rng: random.Random
) -> Callable[[Sequence[int]], list[int]]:
    """Replace some token types by random ones, everywhere alike.

    A language model can guess much of a text in words that it knows. What it cannot guess has to be copied through the
    slots, which is what makes the skill work on words that it has never seen.
    """
    special = set(backbone.tokenizer.all_special_ids)
    size = len(backbone.tokenizer)
    rate = rng.uniform(*_RENAMED)
    names: dict[int, int] = {}
    for token in sorted({token for sequence in sequences for token in sequence} - special):
        if rng.random() < rate:
            other = rng.randrange(size)
            names[token] = token if other in special else other
    return lambda sequence: [names.get(token, token) for token in sequence]
