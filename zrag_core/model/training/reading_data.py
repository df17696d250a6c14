"""What a pretrained LLM learns to read slots from: sentences of prose, alone and among others, with questions."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from zrag_core.corpus.self_study import self_study_query
from zrag_core.corpus.types import Document

Task = Literal["repeat", "quote", "question"]

_TASKS: tuple[tuple[Task, float], ...] = (("repeat", 0.3), ("quote", 0.5), ("question", 0.2))
_SWAPPED = 0.2  # of the examples have other names and numbers, so that nothing can be guessed
_REFUSED = 0.25  # of the quotations are asked for where no sentence answers
_NEAR_MISSES = 0.6  # of these with a question that nothing of the text answers; else the one that does is left out
_SELF_STUDY = 0.4  # of them are words of the sentence
_OTHERS = (0, 0, 0, 1, 1, 2, 3, 5)  # sentences beside the one that answers
_NEIGHBOURS = 0.5  # of them are of the same text
_SHORTEST, _LONGEST = 20, 400  # characters of a sentence

_NUMBER = re.compile(r"\d+")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{3,}")
_SYLLABLES = (
    "ba ber bri cal dor el fen gra hal is jor kel lin mar nor os per quin ros sel tam ul ver wen yor zan".split()
)


@dataclass(frozen=True, slots=True)
class ReadingExample:
    """One thing to do with sentences that stand in slots.

    Attributes:
        task: `repeat` the only sentence, `quote` the one that answers, or ask the `question` that the only one answers.
        title: of the text that the sentence to be found is from.
        sentences: what is read, in this order.
        question: "" where none is asked.
        target: what is to be written; "" where no sentence answers.
    """

    task: Task
    title: str
    sentences: tuple[str, ...]
    question: str
    target: str


class AskedPiece(NamedTuple):
    """A question about a piece, and the number of the sentence that answers it; None where none does."""

    question: str
    piece: int
    sentence: int | None


@dataclass(frozen=True)
class ReadingSource:
    """Prose with questions about single sentences.

    Attributes:
        pieces: titled texts as sentences.
        asked: groups of questions, each with its share of the examples.
    """

    pieces: Sequence[tuple[str, Sequence[str]]]
    asked: Sequence[tuple[float, Sequence[AskedPiece]]]

    def draw(self, rng: random.Random, n: int) -> list[ReadingExample]:
        """Examples of one step; the same generator state gives the same ones.

        All quote from about as many sentences, since a batch is as wide as its longest example.
        """
        others = rng.choice(_OTHERS)
        return [self._example(rng, others) for _ in range(n)]

    def _example(self, rng: random.Random, others: int) -> ReadingExample:
        task = rng.choices([name for name, _ in _TASKS], [share for _, share in _TASKS])[0]
        if task == "repeat":
            title, sentence = self._sentence(rng)
            example = ReadingExample(task, title, (sentence,), "", sentence)
        elif task == "question":
            asked = self._answered(rng)
            assert asked.sentence is not None
            title, sentences = self.pieces[asked.piece]
            example = ReadingExample(task, title, (sentences[asked.sentence],), asked.question, asked.question)
        else:
            example = self._quote(rng, others)
        return _swap(example, rng) if rng.random() < _SWAPPED else example

    def _refused(self, rng: random.Random, n: int) -> ReadingExample:
        """Sentences of one text of which none answers; in half of the examples those that share most words."""
        near = self._near_misses and rng.random() < _NEAR_MISSES
        asked = rng.choice(self._near_misses) if near else self._answered(rng)
        title, sentences = self.pieces[asked.piece]
        gold = None if asked.sentence is None else sentences[asked.sentence]
        shown = [sentence for sentence in sentences if sentence != gold and len(sentence) <= _LONGEST]
        rng.shuffle(shown)
        if rng.random() < 0.5:
            words = set(asked.question.lower().split())
            shown.sort(key=lambda sentence: -len(words.intersection(sentence.lower().split())))
        kept = shown[:n]
        rng.shuffle(kept)
        return ReadingExample("quote", title, tuple(kept), asked.question, "")

    def _quote(self, rng: random.Random, n_others: int) -> ReadingExample:
        if rng.random() < _REFUSED:
            return self._refused(rng, n_others + 1)
        if rng.random() >= _SELF_STUDY:
            asked = self._answered(rng)
            question, (title, sentences) = asked.question, self.pieces[asked.piece]
            assert asked.sentence is not None
            gold = sentences[asked.sentence]
        else:
            title, gold = self._sentence(rng)
            sentences = ()
            question = self_study_query(Document("", title, gold), gold, rng)
        others = []
        for _ in range(n_others):
            near = [sentence for sentence in sentences if sentence != gold and len(sentence) <= _LONGEST]
            others.append(rng.choice(near) if near and rng.random() < _NEIGHBOURS else self._sentence(rng)[1])
        others = [sentence for sentence in dict.fromkeys(others) if sentence != gold]
        shown = [*others, gold]
        rng.shuffle(shown)
        return ReadingExample("quote", title, tuple(shown), question, gold)

    def _answered(self, rng: random.Random) -> AskedPiece:
        ((_, group),) = rng.choices(self._answered_groups, [share for share, _ in self._answered_groups])
        return rng.choice(group)

    @cached_property
    def _answered_groups(self) -> list[tuple[float, list[AskedPiece]]]:
        groups = [(share, [item for item in group if item.sentence is not None]) for share, group in self.asked]
        return [(share, group) for share, group in groups if group]

    @cached_property
    def _near_misses(self) -> list[AskedPiece]:
        return [item for _, group in self.asked for item in group if item.sentence is None]

    @cached_property
    def _readable(self) -> list[tuple[str, list[str]]]:
        """The pieces that have a sentence of usual length, with those sentences."""
        kept = [
            (title, [sentence for sentence in sentences if _SHORTEST <= len(sentence) <= _LONGEST])
            for title, sentences in self.pieces
        ]
        return [(title, sentences) for title, sentences in kept if sentences]

    def _sentence(self, rng: random.Random) -> tuple[str, str]:
        title, sentences = rng.choice(self._readable)
        return title, rng.choice(sentences)


def _swap(example: ReadingExample, rng: random.Random) -> ReadingExample:
    """Other names and numbers, the same ones wherever they stand."""
    whole = "\n".join((*example.sentences, example.question))
    swaps = {name: "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3))).capitalize() for name in _NAME.findall(whole)}
    swaps |= {n: "".join(rng.choices("0123456789", k=len(n))) for n in _NUMBER.findall(whole)}
    if not swaps:
        return example
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, sorted(swaps, key=len, reverse=True))) + r")\b")

    def swapped(text: str) -> str:
        return pattern.sub(lambda found: swaps[found.group()], text)

    return ReadingExample(
        example.task,
        swapped(example.title),
        tuple(map(swapped, example.sentences)),
        swapped(example.question),
        swapped(example.target),
    )
