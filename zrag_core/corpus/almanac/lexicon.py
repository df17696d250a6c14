"""The words and phrasings of one language and pool, read from the package's YAML files."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

from zrag_core.corpus.almanac.grammar import ENGLISH, KOREAN, Grammar
from zrag_core.corpus.almanac.names import LANGUAGES, POOLS, Language, Pool, read_data
from zrag_core.errors import CorpusError

Phrasing = Literal["train", "held_out"]

_ALTERNATIVES = re.compile(r"\(([^()]*)\)")
_SPACE_BEFORE_MARK = re.compile(r" (?=[,.?])")
_GRAMMARS: dict[Language, Grammar] = {"en": ENGLISH, "ko": KOREAN}
# The last lines of every list of question phrasings are never used in training questions.
_HELD_OUT_LINES = 2


@dataclass(frozen=True, slots=True)
class Phrasings:
    """Templates of one attribute of one kind of entity.

    Attributes:
        say: sentences that state the fact.
        ask_train: questions for training.
        ask_held_out: questions for held-out facts only.
        links: noun phrases for what the attribute leads to; empty unless it leads to an entity.
    """

    say: tuple[str, ...]
    ask_train: tuple[str, ...]
    ask_held_out: tuple[str, ...]
    links: tuple[str, ...] = ()

    def ask(self, phrasing: Phrasing) -> tuple[str, ...]:
        """Question phrasings for training, or those for held-out facts."""
        return self.ask_train if phrasing == "train" else self.ask_held_out


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Everything that is written differently in another language or pool.

    Attributes:
        grammar: forms of names and values.
        phrasings: kind of entity -> attribute -> templates.
        vague: shared attribute -> question templates about a region.
        values: attribute -> first and second words of its values.
        kinds: "organisation", "event", "work", "region", "prize", "place" -> words.
    """

    language: Language
    pool: Pool
    grammar: Grammar
    phrasings: dict[str, dict[str, Phrasings]]
    vague: dict[str, tuple[str, ...]]
    values: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    kinds: dict[str, tuple[str, ...]]

    def question(self, template: str, kind: str, name: str) -> str:
        """A question about the entity called `name`."""
        return self.grammar.sentence(template.format(name=self.grammar.mention(kind, name)))

    def vague_question(self, rng: random.Random, attribute: str, region: str, phrasing: Phrasing) -> str:
        """A question about what the entities of `region` share."""
        templates = self.vague[attribute]
        template = rng.choice(templates[:-1] if phrasing == "train" else templates[-1:])
        return self.grammar.sentence(template.format(region=self.grammar.mention("region", region)))


def expand(line: str) -> list[str]:
    """Every text that `line` stands for: "(a|b|) c" gives "a c", "b c" and "c"."""
    parts = _ALTERNATIVES.split(line)  # fixed text at even positions, alternatives at odd ones
    choices = [part.split("|") if position % 2 else [part] for position, part in enumerate(parts)]
    # An empty alternative leaves two spaces, or one before a comma or full stop.
    return [_SPACE_BEFORE_MARK.sub("", " ".join("".join(choice).split())) for choice in product(*choices)]


@cache
def load_lexicon(language: Language, pool: Pool) -> Lexicon:
    """Read the lexicon of `language` and `pool`.

    Raises:
        CorpusError: an unknown language or pool.
    """
    if language not in LANGUAGES:
        raise CorpusError(f"unknown language {language!r}", where="almanac", remedy=f"use one of {list(LANGUAGES)}")
    if pool not in POOLS:
        raise CorpusError(f"unknown pool {pool!r}", where="almanac", remedy=f"use one of {list(POOLS)}")
    templates = dict(read_data(f"{language}_{pool}.yaml"))
    words = read_data(f"{language}_words.yaml")[pool]
    vague = templates.pop("vague")
    return Lexicon(
        language=language,
        pool=pool,
        grammar=_GRAMMARS[language],
        phrasings={
            kind: {attribute: _phrasings(lines) for attribute, lines in attributes.items()}
            for kind, attributes in templates.items()
        },
        vague={attribute: tuple(_expand_all(lines)) for attribute, lines in vague.items()},
        values={name: (_words(parts["first"]), _words(parts["second"])) for name, parts in words["values"].items()},
        kinds={name: _words(listed) for name, listed in words["kinds"].items()},
    )


def _expand_all(lines: list[str]) -> list[str]:
    return [text for line in lines for text in expand(line)]


def _phrasings(lines: dict[str, list[str]]) -> Phrasings:
    return Phrasings(
        say=tuple(_expand_all(lines["say"])),
        ask_train=tuple(_expand_all(lines["ask"][:-_HELD_OUT_LINES])),
        ask_held_out=tuple(_expand_all(lines["ask"][-_HELD_OUT_LINES:])),
        links=tuple(lines.get("phrase", ())),
    )


def _words(listed: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in listed.split())
