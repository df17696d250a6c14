"""Generated documents with the facts that they state, and questions about them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from zrag_core.corpus.almanac.lexicon import Lexicon, Phrasing, load_lexicon
from zrag_core.corpus.almanac.names import Language, Pool
from zrag_core.corpus.almanac.schema import ATTRIBUTES, BLOCK
from zrag_core.corpus.almanac.world import Block, Entity, World
from zrag_core.corpus.types import Document
from zrag_core.errors import CorpusError

_FULL_NAME = 0.45  # chance that a later sentence repeats the full name
_HELD_OUT_LINKS = 4  # one in so many descriptions of a linked entity is kept for held-out questions


@dataclass(frozen=True, slots=True)
class GeneratedSentence:
    """One sentence of a document and the fact that it states.

    Attributes:
        text: verbatim, as it stands in the document.
        answers: strings that stand in `text`, best first.
        target: position of the document that the answer names, if any.
        shared: the answer is that of a whole region and identifies no document.
    """

    text: str
    attribute: str
    answers: tuple[str, ...]
    target: int | None
    shared: bool


class Asked(NamedTuple):
    """A question with the sentence that answers it."""

    question: str
    sentence: GeneratedSentence


class AskedVague(NamedTuple):
    """A question about what a region shares, with every document and sentence that tells it."""

    question: str
    members: list[tuple[GeneratedDocument, GeneratedSentence]]


class AskedTwoHop(NamedTuple):
    """A question over two documents: `link` leads from `source` to `target`, `final` answers."""

    question: str
    source: GeneratedDocument
    link: GeneratedSentence
    target: GeneratedDocument
    final: GeneratedSentence


@dataclass(frozen=True, slots=True)
class GeneratedDocument:
    """A document, its sentences in order, and the attributes that it leaves untold.

    Attributes:
        index: position in the sequence that it was generated in; links refer to it.
        region: that the entity belongs to; what is shared there identifies no document.
        missing: attributes that neither this document nor any other tells about the entity.
    """

    document: Document
    index: int
    kind: str
    region: str
    sentences: tuple[GeneratedSentence, ...]
    missing: tuple[str, ...]
    lexicon: Lexicon = field(repr=False)

    def ask(self, rng: random.Random, sentence: int, *, phrasing: Phrasing) -> Asked:
        """A question about the sentence at position `sentence`."""
        chosen = self.sentences[sentence]
        return Asked(self.question(rng.choice(self.templates(chosen.attribute, phrasing))), chosen)

    def ask_missing(self, rng: random.Random, *, phrasing: Phrasing) -> str | None:
        """A question about an untold attribute, which no document answers; None if there is none."""
        if not self.missing:
            return None
        return self.question(rng.choice(self.templates(rng.choice(self.missing), phrasing)))

    def ask_two_hop(
        self,
        rng: random.Random,
        link: GeneratedSentence,
        target: GeneratedDocument,
        final: GeneratedSentence,
        phrasing: Phrasing,
    ) -> AskedTwoHop:
        """A question about `final` of `target` that names only this document's entity.

        Args:
            rng: chooses the phrasing.
            link: a sentence of this document whose answer is the entity of `target`.
            target: the document that `link.target` points to.
            final: the sentence of `target` that answers.
            phrasing: "held_out" also describes the linked entity in words unused by "train".
        """
        descriptions = self.lexicon.phrasings[self.kind][link.attribute].links
        held_out = -(-len(descriptions) // _HELD_OUT_LINKS)
        descriptions = descriptions[:-held_out] if phrasing == "train" else descriptions[-held_out:]
        grammar = self.lexicon.grammar
        described = rng.choice(descriptions).format(name=grammar.mention(self.kind, self.document.title))
        template = rng.choice(target.templates(final.attribute, phrasing))
        return AskedTwoHop(grammar.sentence(template.format(name=grammar.form(described))), self, link, target, final)

    def finals(self, target: GeneratedDocument) -> list[GeneratedSentence]:
        """Sentences of a linked document that a two-hop question from this one may ask for."""
        return [final for final in target.sentences if final.target != self.index and not final.shared]

    def templates(self, attribute: str, phrasing: Phrasing) -> tuple[str, ...]:
        """Question phrasings for an attribute of this kind of entity."""
        return self.lexicon.phrasings[self.kind][attribute].ask(phrasing)

    def question(self, template: str) -> str:
        """A question about this document's entity."""
        return self.lexicon.question(template, self.kind, self.document.title)


def corpus_name(language: Language, seed: int, pool: Pool) -> str:
    """Name of a generated corpus, and the beginning of its document ids."""
    return f"almanac-{language}-{seed}" if pool == "evaluation" else f"almanac-{pool}-{language}-{seed}"


def generate_blocks(
    n_documents: int, language: Language, seed: int, pool: Pool
) -> Iterator[tuple[Block, list[GeneratedDocument]]]:
    """Whole blocks until they hold `n_documents` (the last one may reach beyond).

    Raises:
        CorpusError: a negative number, or an unknown language or pool.
    """
    if n_documents < 0:
        raise CorpusError(f"cannot generate {n_documents} documents", where="almanac", remedy="use 0 or more")
    name = corpus_name(language, seed, pool)
    lexicon = load_lexicon(language, pool)
    world = World(lexicon)
    for number in range(-(-n_documents // len(BLOCK))):
        # String seeds are hashed with SHA-512, so every process draws the same numbers.
        rng = random.Random(f"{name}/{number}")
        block = world.grow(rng)
        yield block, [write_document(rng, lexicon, block, entity, name) for entity in block.entities]


def skill_batch(rng: random.Random, n: int, language: Language = "en") -> list[GeneratedDocument]:
    """`n` fresh documents of the skill pool from a world that exists for this call only.

    Args:
        rng: decides everything; the same state gives the same documents.
        n: how many documents.
        language: "en" or "ko".

    Raises:
        CorpusError: an unknown language.
    """
    lexicon = load_lexicon(language, "skill")
    world = World(lexicon)
    documents: list[GeneratedDocument] = []
    while len(documents) < n:
        block = world.grow(rng)
        documents.extend(
            write_document(rng, lexicon, block, entity, f"almanac-skill-{language}")
            for entity in block.entities[: n - len(documents)]
        )
    return documents


def two_hop_questions(
    rng: random.Random, documents: Sequence[GeneratedDocument], *, phrasing: Phrasing
) -> list[AskedTwoHop]:
    """One two-hop question for every link between two of `documents` (indexed by position)."""
    asked = []
    for source in documents:
        for link in source.sentences:
            if link.target is None or link.target >= len(documents):
                continue
            target = documents[link.target]
            hops = [source.ask_two_hop(rng, link, target, final, phrasing) for final in source.finals(target)]
            hops = [hop for hop in hops if not gives_away(hop.question, hop.final.answers)]
            if hops:
                asked.append(rng.choice(hops))
    return asked


def vague_questions(
    rng: random.Random, documents: Sequence[GeneratedDocument], *, phrasing: Phrasing
) -> list[AskedVague]:
    """One question for everything that documents of one region share; it names the region and no document."""
    return [
        AskedVague(members[0][0].lexicon.vague_question(rng, attribute, region, phrasing), members)
        for (region, attribute), members in shared_facts(documents).items()
    ]


def shared_facts(
    documents: Sequence[GeneratedDocument],
) -> dict[tuple[str, str], list[tuple[GeneratedDocument, GeneratedSentence]]]:
    """Map (region, attribute) to the documents and sentences that tell what the region shares."""
    shared: dict[tuple[str, str], list[tuple[GeneratedDocument, GeneratedSentence]]] = {}
    for document in documents:
        for sentence in document.sentences:
            if sentence.shared:
                shared.setdefault((document.region, sentence.attribute), []).append((document, sentence))
    return shared


def gives_away(question: str, answers: Sequence[str]) -> bool:
    """Whether an answer already stands in the question."""
    lowered = question.casefold()
    return any(answer.casefold() in lowered for answer in answers)


def write_document(
    rng: random.Random, lexicon: Lexicon, block: Block, entity: Entity, prefix: str
) -> GeneratedDocument:
    """Write the facts of `entity` as a document.

    The first sentence carries the full name; later ones may say "the town" or a family name.
    """
    grammar = lexicon.grammar
    full = grammar.mention(entity.kind, entity.name)
    short = grammar.short_mention(entity.kind, entity.name, entity.noun)
    region = grammar.mention("region", block.region)
    noun = grammar.form(entity.noun)
    sentences: list[GeneratedSentence] = []
    for fact in entity.facts:
        template = rng.choice(lexicon.phrasings[entity.kind][fact.attribute].say)
        # "the tale, a tale from ..." would be odd: templates that say what it is name it too.
        named = not sentences or "{noun" in template or rng.random() < _FULL_NAME
        name = full if named else short
        text = grammar.sentence(template.format(name=name, value=fact.form, region=region, noun=noun))
        answers = tuple(answer for answer in fact.answers if answer in text)
        sentences.append(GeneratedSentence(text, fact.attribute, answers, fact.target, fact.shared))
    told = {fact.attribute for fact in entity.facts}
    missing = tuple(
        name
        for name, source in ATTRIBUTES[entity.kind].items()
        if name not in told and not source.inferable and source.how != "shared"
    )
    document_id = f"{prefix}-{entity.index:05d}"
    text = " ".join(sentence.text for sentence in sentences)
    document = Document(document_id, entity.name, text, source_id=document_id)
    return GeneratedDocument(document, entity.index, entity.kind, block.region, tuple(sentences), missing, lexicon)
