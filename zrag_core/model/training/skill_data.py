"""What the skill is learned from: fresh documents in every step, with questions about them.

The documents are thrown away after their step, so theta can learn how to write, route and read, and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from zrag_core.corpus.almanac import (
    GeneratedDocument,
    Phrasing,
    skill_batch,
    two_hop_questions,
    vague_questions,
)
from zrag_core.corpus.almanac.names import Language
from zrag_core.corpus.self_study import self_study_query
from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, Document
from zrag_core.corpus.version import corpus_version
from zrag_core.sentences import split_sentences
from zrag_core.settings import TargetSettings


@dataclass(frozen=True, slots=True)
class SkillDocument:
    """A document with questions on it.

    Attributes:
        document: title and text; the text may be a part of what the source generated.
        asked: (question, evidence sentence) pairs.
        unanswerable: questions about the same subject that the document does not answer.
        two_hop: questions that name this document's subject and are answered in another one.
        vague: (question, evidence sentence) pairs that name no subject; other documents answer them as well.
    """

    document: Document
    asked: list[tuple[str, str]]
    unanswerable: list[str]
    two_hop: list[TwoHop] = field(default_factory=list)
    vague: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TwoHop:
    """A question over two documents.

    Attributes:
        link: sentence of the first document that leads to the second.
        target: id of the second document.
        evidence: sentence there that answers.
    """

    question: str
    link: str
    target: str
    evidence: str


class SkillSource(Protocol):
    """Draws fresh documents; the same generator state gives the same ones.

    Attributes:
        name: tells trainings apart.
        content_hashes: of the documents that are drawn from; none where they are generated afresh.
    """

    name: str
    content_hashes: frozenset[str]

    def draw(self, rng: random.Random, n: int, questions: int, *, held_out: bool = False) -> list[SkillDocument]:
        """Draw `n` documents with up to `questions` questions each.

        Args:
            held_out: ask in words that training never draws.
        """
        ...


_MISSING = 3  # unanswerable questions about a document that leaves something untold


class AlmanacSkill:
    """The generator's skill pool: names, values and phrasings that no evaluated almanac uses."""

    def __init__(self, languages: Sequence[Language]):
        self.languages = tuple(languages)
        self.name = f"almanac ({', '.join(self.languages)})"
        self.content_hashes: frozenset[str] = frozenset()

    def draw(self, rng: random.Random, n: int, questions: int, *, held_out: bool = False) -> list[SkillDocument]:
        """Documents of one fresh world per language, in equal parts."""
        phrasing: Phrasing = "held_out" if held_out else "train"
        drawn: list[SkillDocument] = []
        for number, language in enumerate(self.languages):
            share = n * (number + 1) // len(self.languages) - n * number // len(self.languages)
            world = skill_batch(rng, share, language)
            hops: dict[str, list[TwoHop]] = {}
            for hop in two_hop_questions(rng, world, phrasing=phrasing):
                found = TwoHop(hop.question, hop.link.text, hop.target.document.id, hop.final.text)
                hops.setdefault(hop.source.document.id, []).append(found)
            vague: dict[str, list[tuple[str, str]]] = {}
            for shared in vague_questions(rng, world, phrasing=phrasing):
                for member, sentence in shared.members:
                    vague.setdefault(member.document.id, []).append((shared.question, sentence.text))
            for made in world:
                asked = [made.ask_missing(rng, phrasing=phrasing) for _ in range(_MISSING)] if made.missing else []
                missing = [question for question in asked if question is not None]
                document_id = made.document.id
                item = SkillDocument(
                    made.document,
                    _asked(rng, made, questions, phrasing),
                    missing,
                    hops.get(document_id, []),
                    vague.get(document_id, []),
                )
                drawn.append(item)
        return drawn


def _asked(rng: random.Random, made: GeneratedDocument, questions: int, phrasing: Phrasing) -> list[tuple[str, str]]:
    """Questions about random sentences, about every one of them before any is asked again in other words."""
    numbers: list[int] = []
    while len(numbers) < questions:
        numbers += rng.sample(range(len(made.sentences)), min(questions - len(numbers), len(made.sentences)))
    asked = [made.ask(rng, number, phrasing=phrasing) for number in numbers]
    return [(item.question, item.sentence.text) for item in asked]


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
        self.content_hashes = frozenset(document.content_hash for document in corpus.documents)
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

    def draw(self, rng: random.Random, n: int, questions: int, *, held_out: bool = False) -> list[SkillDocument]:
        """Random documents, or windows of them."""
        drawn = []
        for row in rng.sample(range(len(self._documents)), min(n, len(self._documents))):
            source, sentences = self._documents[row], self._sentences[row]
            first = 0 if held_out else rng.randrange(len(sentences))
            window = [sentences[first]]
            for sentence in sentences[first + 1 :]:
                if len(" ".join([*window, sentence])) > self._characters:
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
