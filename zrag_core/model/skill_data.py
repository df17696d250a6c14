"""What the skill is learned from: fresh documents in every step, with questions about them.

The documents are thrown away after their step, so theta can learn how to write, route and read, and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from zrag_core.corpus.almanac import skill_batch, two_hop_questions
from zrag_core.corpus.self_study import self_study_query
from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, Document
from zrag_core.corpus.version import corpus_version
from zrag_core.model.backbone import Backbone
from zrag_core.settings import SkillSettings, TargetSettings
from zrag_core.text import split_sentences

Pair = tuple[list[int], list[int]]
_RENAMED = (0.1, 0.6)  # share of a document's token types


@dataclass(frozen=True, slots=True)
class SkillDocument:
    """A document with questions on it.

    Attributes:
        document: title and text; the text may be a part of what the source generated.
        asked: (question, evidence sentence) pairs.
        unanswerable: questions about the same subject that the document does not answer.
        two_hop: (question, id of another document, evidence there); the question names this document's subject only.
    """

    document: Document
    asked: list[tuple[str, str]]
    unanswerable: list[str]
    two_hop: list[tuple[str, str, str]] = field(default_factory=list)


class SkillSource(Protocol):
    """Draws fresh documents; the same generator state gives the same ones."""

    name: str

    def draw(
        self, rng: random.Random, n: int, questions: int, *, longest: int | None = None, held_out: bool = False
    ) -> list[SkillDocument]:
        """Draw `n` documents with up to `questions` questions each.

        Args:
            longest: at most this many sentences in a document.
            held_out: whole documents, asked in words that training never draws.
        """
        ...


class AlmanacSkill:
    """The generator's skill pool: names, values and phrasings that no evaluated almanac uses.

    Texts are runs of neighbouring sentences of random length, so that short and long documents occur everywhere.
    """

    def __init__(self, languages: Sequence[str]):
        self.languages = tuple(languages)
        self.name = f"almanac ({', '.join(self.languages)})"

    def draw(
        self, rng: random.Random, n: int, questions: int, *, longest: int | None = None, held_out: bool = False
    ) -> list[SkillDocument]:
        """Documents of one fresh world per language, in equal parts."""
        drawn: list[SkillDocument] = []
        for number, language in enumerate(self.languages):
            share = n * (number + 1) // len(self.languages) - n * number // len(self.languages)
            world = skill_batch(rng, share, language)
            hops: dict[str, list[tuple[str, str, str]]] = {}
            for hop in two_hop_questions(rng, world) if held_out else ():
                found = (hop.question, hop.target.document.id, hop.final.text)
                hops.setdefault(hop.source.document.id, []).append(found)
            for made in world:
                total = len(made.sentences)
                count = total if held_out else rng.randint(1, min(total, longest or total))
                first = rng.randint(0, total - count)
                kept = range(first, first + count)
                phrasing = "held_out" if held_out else "train"
                # Short documents are asked the same thing in several ways.
                asked = [made.ask(rng, i, phrasing=phrasing) for i in rng.choices(kept, k=questions)]
                text = " ".join(made.sentences[i].text for i in kept)
                document = Document(made.document.id, made.document.title, text)
                missing = made.ask_missing(rng, phrasing=phrasing)
                pairs = [(item.question, item.sentence.text) for item in asked]
                unanswerable = [] if missing is None else [missing]
                drawn.append(SkillDocument(document, pairs, unanswerable, hops.get(document.id, [])))
        return drawn


class CorpusSkill:
    """The documents of a corpus other than the one to be remembered, asked by its questions and by self-study.

    Args:
        corpus: documents and questions; questions of other splits than "train" are the held-out ones. Where evidence
            is not given, it is the sentence with the answer.
        characters: most characters of a drawn text; longer documents give windows of whole sentences.
    """

    def __init__(self, corpus: Corpus, characters: int = 1200):
        # The version tells trainings on different contents apart.
        self.name = f"{corpus.name} {corpus_version(corpus.documents)}"
        # A document without a sentence teaches nothing.
        split = [(document, [span.text for span in split_sentences(document.text)]) for document in corpus.documents]
        self._documents = [document for document, sentences in split if sentences]
        self._sentences = [sentences for _, sentences in split if sentences]
        self._characters = characters
        rows = {document.id: row for row, document in enumerate(self._documents)}
        self._study: list[set[str]] = [set() for _ in rows]
        self._asked: dict[bool, list[list[tuple[str, str]]]] = {h: [[] for _ in rows] for h in (False, True)}
        for target in build_targets(corpus, TargetSettings(self_study_per_sentence=1), 0):
            row = rows.get(target.document_ids[0])
            if row is None:
                continue
            if target.method == "self_study" and target.split == "train":
                self._study[row].add(target.evidence)
            else:
                self._asked[target.split != "train"][row].append((target.query, target.evidence))

    def draw(
        self, rng: random.Random, n: int, questions: int, *, longest: int | None = None, held_out: bool = False
    ) -> list[SkillDocument]:
        """Random documents, or windows of them."""
        drawn = []
        for row in rng.sample(range(len(self._documents)), min(n, len(self._documents))):
            source, sentences = self._documents[row], self._sentences[row]
            first = 0 if held_out else rng.randrange(len(sentences))
            window = [sentences[first]]
            for sentence in sentences[first + 1 :]:
                if len(window) == longest or len(" ".join([*window, sentence])) > self._characters:
                    break
                window.append(sentence)
            asked = [(q, e) for q, e in self._asked[held_out][row] if e in window]
            asked = rng.sample(asked, min(questions, len(asked)))
            study = [sentence for sentence in window if sentence in self._study[row]]
            if not held_out:
                while study and len(asked) < questions:
                    sentence = rng.choice(study)
                    asked.append((self_study_query(source, sentence, rng), sentence))
            drawn.append(SkillDocument(Document(source.id, source.title, " ".join(window)), asked, []))
        return drawn


@dataclass(frozen=True)
class SkillBatch:
    """One step's worth of writing, reading, rebuilding and routing.

    Attributes:
        stride: of the encoder in this step.
        documents: what is written; row i of the step's memory is documents[i].
        ids: their token ids.
        pairs: for each document (query, evidence) to read, evidence ending in EOS; EOS alone where it has no answer.
        masked: token ids of each document with most of them masked, ending in EOS.
        queries: text and token ids of every routed query, with its row; len(documents) for "not in memory".
    """

    stride: int
    documents: list[Document]
    ids: list[list[int]]
    pairs: list[list[Pair]]
    masked: list[list[int]]
    queries: list[tuple[str, list[int], int]]


def highest_level(settings: SkillSettings, stride: int) -> int:
    """Level of the curriculum from which on documents and strides are those of real use."""
    return max(settings.sentences, stride) - 1


def make_batch(
    source: SkillSource,
    backbone: Backbone,
    settings: SkillSettings,
    rng: random.Random,
    *,
    stride: int,
    level: int,
) -> SkillBatch:
    """Draw one batch.

    A few more documents are drawn than are written: questions about those are "not in memory". An unanswerable
    question, or one about another document, is read as the empty evidence.

    Args:
        stride: of the encoder.
        level: of the curriculum. At level 0 a document is one sentence and a slot holds a single token of it, which
            is read by copying and learned in a hundred steps; every level adds a sentence and a token per slot.
    """
    n = settings.documents
    spare = max(1, round(n * settings.absent_share))
    longest = min(1 + level, settings.sentences)
    widest = min(1 + level, stride)
    drawn = source.draw(rng, n + spare, settings.questions, longest=longest)
    rng.shuffle(drawn)
    inside, outside = drawn[:n], drawn[n:]
    ids: list[list[int]] = []
    pairs: list[list[Pair]] = []
    queries: list[tuple[str, list[int], int]] = []
    for row, item in enumerate(inside):
        tokens = backbone.encode(item.document.text, settings.document_tokens)
        own = _pairs(item, inside, backbone, settings, rng)
        if rng.random() < settings.renamed_share:
            rename = _renaming([tokens, *(part for pair in own for part in pair)], backbone, rng)
            tokens = rename(tokens)
            own = [(rename(query), rename(evidence)) for query, evidence in own]
        ids.append(tokens)
        pairs.append(own)
        queries += [(question, own[i][0], row) for i, (question, _) in enumerate(item.asked)]
    for item in outside:
        queries += [(q, backbone.encode(q, settings.query_tokens), len(inside)) for q, _ in item.asked[:1]]
    return SkillBatch(
        # The full stride is what counts in the end, so it comes as often as all the others together.
        stride=rng.choice((widest, rng.randint(1, widest))),
        documents=[item.document for item in inside],
        ids=ids,
        pairs=pairs,
        masked=[_masked(tokens, backbone, settings, rng) for tokens in ids],
        queries=queries,
    )


def _pairs(
    item: SkillDocument,
    batch: Sequence[SkillDocument],
    backbone: Backbone,
    settings: SkillSettings,
    rng: random.Random,
) -> list[Pair]:
    """What a document is asked: its own questions first, in their order, then some that it does not answer."""

    def query(text: str) -> list[int]:
        return backbone.encode(text, settings.query_tokens)

    empty = [backbone.eos_id]
    pairs = [(query(q), [*backbone.encode(e, settings.evidence_tokens), backbone.eos_id]) for q, e in item.asked]
    if item.unanswerable and rng.random() < settings.unanswerable_share:
        pairs.append((query(rng.choice(item.unanswerable)), empty))
    other = rng.choice(batch)
    if other is not item and other.asked and rng.random() < settings.unanswerable_share:
        pairs.append((query(rng.choice(other.asked)[0]), empty))
    return pairs


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


def _masked(tokens: list[int], backbone: Backbone, settings: SkillSettings, rng: random.Random) -> list[int]:
    rate = rng.uniform(settings.mask_least, 1.0)
    return [backbone.mask_id if rng.random() < rate else token for token in [*tokens, backbone.eos_id]]
