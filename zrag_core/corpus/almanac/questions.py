"""A whole almanac: documents, and questions with splits that share no fact."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from zrag_core.corpus.almanac.documents import (
    GeneratedDocument,
    GeneratedSentence,
    corpus_name,
    generate_blocks,
    gives_away,
    shared_facts,
)
from zrag_core.corpus.almanac.lexicon import Lexicon, Phrasing, load_lexicon
from zrag_core.corpus.almanac.names import Language, Pool
from zrag_core.corpus.almanac.schema import ATTRIBUTES, SHARED
from zrag_core.corpus.almanac.world import Block
from zrag_core.corpus.types import Corpus, Question

_TEST_SHARE = 0.3
_DEV_SHARE = 0.1
_MISSING_PER_BLOCK = 9
_SPLITS = ("train", "dev", "test")
# Splits of the fact that a two-hop question starts from, for the split of the fact that it ends at.
_LINK_SPLITS = {"train": ("train",), "dev": ("train", "dev"), "test": ("train", "test")}


def generate_almanac(n_documents: int, language: Language = "en", seed: int = 0, pool: Pool = "evaluation") -> Corpus:
    """Generate an almanac with all its questions.

    The same arguments give the same corpus in every process. Document i and the questions about it
    are the same for every `n_documents` above i; a longer almanac only adds.

    Facts, not questions, are split: about three in ten facts of a document are asked in the test
    split only, one in ten in the dev split only. Test and dev questions also use phrasings that no
    training question uses.

    Args:
        n_documents: how many documents.
        language: "en" or "ko".
        seed: another seed is another world.
        pool: "evaluation", or "skill" for a corpus that shares no name, value or phrasing with it.

    Raises:
        CorpusError: a negative number, or an unknown language or pool.
    """
    writer = _QuestionWriter(n_documents, load_lexicon(language, pool), corpus_name(language, seed, pool))
    questions: list[Question] = []
    for block, documents in generate_blocks(n_documents, language, seed, pool):
        questions.extend(writer.block_questions(block, documents))
    return Corpus(
        name=writer.name,
        documents=tuple(document.document for document in writer.documents[:n_documents]),
        questions=tuple(questions),
        notes=("Fictional documents of the built-in generator; names, values and facts are invented.",),
    )


class _QuestionWriter:
    """Questions block by block; remembers documents and fact splits, which later blocks link to."""

    def __init__(self, n_documents: int, lexicon: Lexicon, name: str):
        self.name = name
        self.documents: list[GeneratedDocument] = []
        self._n_documents = n_documents
        self._lexicon = lexicon
        self._splits: list[dict[str, str]] = []

    def block_questions(self, block: Block, documents: list[GeneratedDocument]) -> Iterator[Question]:
        """All questions about `block` that the corpus as cut to its size can be asked."""
        self.documents.extend(documents)
        rng = random.Random(f"{self.name}/{block.number}/questions")
        groups = self._group_splits(rng, block.number)
        for document in documents:
            self._splits.append(_fact_splits(rng, document, groups))
        # Everything is drawn whether or not its documents are inside the cut: that keeps it stable.
        for document in documents:
            for question in [*self._single(rng, document), *self._two_hop(rng, document)]:
                if document.index < self._n_documents:
                    yield question
        yield from self._vague(rng, block, documents, groups)
        yield from self._missing(rng, documents)
        yield from self._absent(rng, block)

    @staticmethod
    def _group_splits(rng: random.Random, number: int) -> dict[str, str]:
        splits = ["test", "test", "test", "dev" if number % 2 else "train"]
        rng.shuffle(splits)
        return dict(zip(SHARED, splits, strict=True))

    def _single(self, rng: random.Random, document: GeneratedDocument) -> Iterator[Question]:
        splits = self._splits[document.index]
        for sentence in document.sentences:
            split = splits.get(sentence.attribute)
            if split is None:
                continue
            templates = document.templates(sentence.attribute, _phrasing(split))
            count = rng.randint(2, 3) if split == "train" else 1
            for number, template in enumerate(rng.sample(templates, min(count, len(templates)))):
                text = document.question(template)
                if not gives_away(text, sentence.answers):
                    yield self._question(
                        _fact_id(document, sentence),
                        text,
                        split,
                        number=number,
                        golden_answers=sentence.answers,
                        document_ids=(document.document.id,),
                        evidence=sentence.text,
                        metadata={"kind": document.kind, "attribute": sentence.attribute},
                    )

    def _two_hop(self, rng: random.Random, source: GeneratedDocument) -> Iterator[Question]:
        """At most one question for each split that starts at `source`."""
        pairs = [
            (link, target, final)
            for link in source.sentences
            if link.target is not None
            for target in (self.documents[link.target],)
            for final in source.finals(target)
        ]
        rng.shuffle(pairs)
        for split in _SPLITS:
            for link, target, final in pairs:
                link_split = self._splits[source.index][link.attribute]
                if self._splits[target.index][final.attribute] != split or link_split not in _LINK_SPLITS[split]:
                    continue
                asked = source.ask_two_hop(rng, link, target, final, _phrasing(split))
                if gives_away(asked.question, final.answers):
                    continue
                if target.index < self._n_documents:
                    hops = [(source, link), (target, final)]
                    fact_id = f"{_fact_id(source, link)}>{_fact_id(target, final)}"
                    yield self._question(
                        fact_id, asked.question, split, golden_answers=final.answers, **_over_documents(hops, "two_hop")
                    )
                break

    def _vague(
        self, rng: random.Random, block: Block, documents: list[GeneratedDocument], groups: dict[str, str]
    ) -> Iterator[Question]:
        shared = shared_facts(documents)
        for attribute, split in groups.items():
            members = shared[block.region, attribute]
            text = self._lexicon.vague_question(rng, attribute, block.region, _phrasing(split))
            if max(document.index for document, _ in members) < self._n_documents:
                answers = tuple(dict.fromkeys(answer for _, sentence in members for answer in sentence.answers))
                fact_id = f"{self.name}-b{block.number:04d}:{attribute}"
                yield self._question(fact_id, text, split, golden_answers=answers, **_over_documents(members, "vague"))

    def _missing(self, rng: random.Random, documents: list[GeneratedDocument]) -> Iterator[Question]:
        """Questions about entities of the corpus that no document answers."""
        eligible = [document for document in documents if document.missing]
        for document in rng.sample(eligible, min(_MISSING_PER_BLOCK, len(eligible))):
            attribute = rng.choice(document.missing)
            fact_id = f"{document.document.id}:{attribute}"
            question = self._unanswerable(rng, fact_id, document.kind, document.document.title, "missing")
            if document.index < self._n_documents:
                yield question

    def _absent(self, rng: random.Random, block: Block) -> Iterator[Question]:
        """Questions about entities that do not exist."""
        for number, entity in enumerate(block.absent):
            attribute = rng.choice([name for name, source in ATTRIBUTES[entity.kind].items() if source.how != "shared"])
            fact_id = f"{self.name}-b{block.number:04d}-absent{number}:{attribute}"
            yield self._unanswerable(rng, fact_id, entity.kind, entity.name, "absent")

    def _unanswerable(self, rng: random.Random, fact_id: str, kind: str, name: str, reason: str) -> Question:
        attribute = fact_id.rsplit(":", 1)[1]
        template = rng.choice(self._lexicon.phrasings[kind][attribute].ask("held_out"))
        metadata = {"kind": kind, "attribute": attribute, "entity": name, "unanswerable": reason}
        return self._question(fact_id, self._lexicon.question(template, kind, name), "unanswerable", metadata=metadata)

    def _question(self, fact_id: str, text: str, split: str, number: int = 0, **fields: Any) -> Question:
        """Question `number` about a fact."""
        language = self._lexicon.language
        return Question(f"{fact_id}:{number}", text, split=split, language=language, fact_id=fact_id, **fields)


def _over_documents(facts: list[tuple[GeneratedDocument, GeneratedSentence]], question_type: str) -> dict[str, Any]:
    """The fields of a question whose evidence stands in several documents."""
    supporting = [
        [document.document.id, document.document.title, document.sentences.index(sentence)]
        for document, sentence in facts
    ]
    return {
        "document_ids": tuple(document.document.id for document, _ in facts),
        "evidence": " ".join(sentence.text for _, sentence in facts),
        "question_type": question_type,
        "metadata": {"attribute": facts[-1][1].attribute, "supporting_facts": supporting},
    }


def _fact_splits(rng: random.Random, document: GeneratedDocument, groups: dict[str, str]) -> dict[str, str]:
    """Split of each fact that may be asked about `document`.

    A shared fact is asked in training where its region's vague question is a training question;
    elsewhere only the vague question asks for it.
    """
    own = [sentence.attribute for sentence in document.sentences if not sentence.shared]
    rng.shuffle(own)
    n_test = max(1, int(_TEST_SHARE * len(own) + 0.5))
    n_dev = int(rng.random() < _DEV_SHARE * len(own))
    splits = dict.fromkeys(own, "train")
    splits.update(dict.fromkeys(own[:n_test], "test"))
    splits.update(dict.fromkeys(own[n_test : n_test + n_dev], "dev"))
    for sentence in document.sentences:
        if sentence.shared and groups[sentence.attribute] == "train":
            splits[sentence.attribute] = "train"
    return splits


def _phrasing(split: str) -> Phrasing:
    return "train" if split == "train" else "held_out"


def _fact_id(document: GeneratedDocument, sentence: GeneratedSentence) -> str:
    return f"{document.document.id}:{sentence.attribute}"
