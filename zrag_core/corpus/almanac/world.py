"""Fictional worlds: entities with unique names, facts about them, and links between them.

A world grows by blocks. A block is one region with sixteen entities; it depends on its own random
generator and on earlier blocks only, so a longer world begins with the shorter one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from zrag_core.corpus.almanac.lexicon import Lexicon
from zrag_core.corpus.almanac.names import Role, name_words, pool_number, pool_of
from zrag_core.corpus.almanac.schema import ATTRIBUTES, BLOCK, SHARED, SHARED_BY_KIND, Kind, Source
from zrag_core.errors import CorpusError

_FACTS = (6, 7, 8)  # sentences of a document
_ABSENT = 3  # names in a block that belong to nobody, now or later
_OLD_PLACE = 0.35  # chance that a link leads to a place of an earlier region
_SAME_FAMILY = 0.15  # chance of the family name of somebody else
_SAME_GIVEN = 0.1
_NAMED_AFTER = 0.2  # chance that an organisation or event carries a family name
_PREFIXED = 0.1  # chance of a place called Upper or New
_ATTEMPTS = 400
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class Fact:
    """One attribute of one entity.

    Attributes:
        form: the value as it stands in a sentence, with the language's format specs.
        answers: accepted answers, best first.
        target: index of the entity that the value names, if any.
        shared: the value is that of the whole region.
    """

    attribute: str
    form: str
    answers: tuple[str, ...]
    target: int | None = None
    shared: bool = False


@dataclass(slots=True)
class Entity:
    """Somebody or something with a document of its own (or with none, for absent ones).

    Attributes:
        index: position in the world, which is the position of its document; -1 for absent ones.
        noun: what a sentence may call it instead of its name ("town").
        year: birth, foundation, publication or first edition.
        facts: in the order of the document.
    """

    index: int
    kind: Kind
    name: str
    noun: str
    year: int = 0
    facts: tuple[Fact, ...] = ()


@dataclass(slots=True)
class Block:
    """One region: its entities, and names that nobody carries."""

    number: int
    region: str
    entities: list[Entity] = field(default_factory=list)
    absent: list[Entity] = field(default_factory=list)


class World:
    """A growing world in one language and pool."""

    def __init__(self, lexicon: Lexicon):
        self._lexicon = lexicon
        self._grammar = lexicon.grammar
        self._taken: set[str] = set()
        self._given: list[str] = []
        self._families: list[str] = []
        self._places: list[Entity] = []
        self._size = 0
        self._blocks = 0

    def grow(self, rng: random.Random) -> Block:
        """Add the next region and return it.

        Raises:
            CorpusError: no unused names are left (far beyond a million documents).
        """
        region = self._unique(
            lambda: f"{self._word(rng, 'place')} {rng.choice(self._lexicon.kinds['region'])}", "region"
        )
        block = Block(self._blocks, region)
        era = rng.randrange(1760, 1931)
        kinds = list(BLOCK)
        rng.shuffle(kinds)
        for kind in kinds:
            block.entities.append(self._entity(rng, kind, self._size, era))
            self._size += 1
        block.absent = [self._entity(rng, rng.choice(BLOCK), -1, era) for _ in range(_ABSENT)]
        self._blocks += 1
        shared = self._shared_facts(rng)
        members = self._members(rng, block)
        for entity in block.entities:
            common = shared[SHARED_BY_KIND[entity.kind]] if entity.index in members else None
            entity.facts = self._facts(rng, entity, block, common)
        self._places.extend(entity for entity in block.entities if entity.kind == "place")
        return block

    # Names ------------------------------------------------------------------------------------

    def _word(self, rng: random.Random, role: Role) -> str:
        return rng.choice(name_words(self._lexicon.language, self._lexicon.pool, role))

    def _unique(self, draw: Callable[[], str], kind: str) -> str:
        for _ in range(_ATTEMPTS):
            name = draw()
            if name not in self._taken:
                self._taken.add(name)
                return name
        raise CorpusError(
            f"no unused {kind} name is left after {self._size} documents",
            where="almanac",
            remedy="generate fewer documents",
        )

    def _entity(self, rng: random.Random, kind: Kind, index: int, era: int) -> Entity:
        pool = self._lexicon.pool
        if kind == "person":
            name = self._unique(lambda: self._person_name(rng), kind)
            return Entity(index, kind, name, "", pool_number(rng, pool, era - 25, era + 25))
        if kind == "place":
            name = self._unique(lambda: self._place_name(rng), kind)
            return Entity(index, kind, name, rng.choice(self._grammar.place_nouns), pool_number(rng, pool, 900, 1690))
        noun = rng.choice(self._lexicon.kinds[kind])
        year = pool_number(rng, pool, era + 25, era + 75)
        if kind == "work":
            return Entity(index, kind, self._unique(lambda: self._title(rng), kind), noun, year)
        name = self._unique(lambda: f"{self._namesake(rng, noun)} {noun}", kind)
        return Entity(index, kind, name, noun.lower(), year)

    def _person_name(self, rng: random.Random) -> str:
        given = self._known_or_new(rng, self._given, "given", _SAME_GIVEN)
        return f"{given} {self._known_or_new(rng, self._families, 'family', _SAME_FAMILY)}"

    def _known_or_new(self, rng: random.Random, known: list[str], role: Role, chance: float) -> str:
        """A name that others carry already, with the given chance; else one that joins `known`."""
        if known and rng.random() < chance:
            return rng.choice(known)
        known.append(self._word(rng, role))
        return known[-1]

    def _place_name(self, rng: random.Random) -> str:
        name = self._word(rng, "place")
        if name in self._taken or rng.random() < _PREFIXED:
            name = self._grammar.place_name.format(rng.choice(self._lexicon.kinds["place"]), name)
        return name if name not in self._taken else f"{name}-{self._word(rng, 'other')}"

    def _namesake(self, rng: random.Random, noun: str) -> str:
        """What an organisation or event is called after; double-barrelled when the plain name is taken."""
        known = self._families and rng.random() < _NAMED_AFTER
        name = rng.choice(self._families) if known else self._word(rng, "other")
        return name if f"{name} {noun}" not in self._taken else f"{name}-{self._word(rng, 'other')}"

    def _title(self, rng: random.Random) -> str:
        first, second = self._lexicon.values["title"]
        title = self._grammar.title.format(rng.choice(first).capitalize(), rng.choice(second).capitalize())
        if title not in self._taken:
            return title
        return self._grammar.title_of.format(title=title, name=self._word(rng, "other"))

    # Facts ------------------------------------------------------------------------------------

    def _shared_facts(self, rng: random.Random) -> dict[str, Fact]:
        prize = f"{self._word(rng, 'other')} {rng.choice(self._lexicon.kinds['prize'])}"
        answers = {
            "prize": self._grammar.name_answers("prize", prize),
            "river": (self._grammar.river.format(self._word(rng, "other")),),
            "field": (self._two_words(rng, "topic"),),
            "theme": (self._two_words(rng, "theme"),),
        }
        forms = {name: self._grammar.form(answers[name][0]) for name in SHARED}
        forms["prize"] = self._grammar.mention("prize", prize)
        return {name: Fact(name, forms[name], answers[name], shared=True) for name in SHARED}

    @staticmethod
    def _members(rng: random.Random, block: Block) -> set[int]:
        """The entities that tell what their region shares; at least three for each shared attribute."""
        people = [entity.index for entity in block.entities if entity.kind == "person"]
        others = {entity.index for entity in block.entities if entity.kind != "person"}
        return others | set(rng.sample(people, rng.randint(3, 5)))

    def _facts(self, rng: random.Random, entity: Entity, block: Block, common: Fact | None) -> tuple[Fact, ...]:
        own = [(name, source) for name, source in ATTRIBUTES[entity.kind].items() if source.how != "shared"]
        rng.shuffle(own)
        facts = [common] if common else []
        # At least one attribute stays untold, for a question that the document cannot answer.
        wanted = min(rng.choice(_FACTS), len(own) - 1 + len(facts))
        for name, source in own:
            if len(facts) == wanted:
                break
            fact = self._fact(rng, name, source, entity, block)
            if fact:
                facts.append(fact)
        rng.shuffle(facts)
        return tuple(facts)

    def _fact(self, rng: random.Random, name: str, source: Source, entity: Entity, block: Block) -> Fact | None:
        grammar = self._grammar
        if source.how == "link":
            target = self._linked(rng, source, entity, block)
            if target is None:
                return None
            form = grammar.mention(target.kind, target.name)
            return Fact(name, form, grammar.name_answers(target.kind, target.name), target.index)
        answers: tuple[str, ...]
        if source.how == "words":
            answers = (self._two_words(rng, name),)
        elif source.how == "year":
            answers = tuple(form.format(entity.year) for form in grammar.years)
        elif source.how == "number":
            number = pool_number(rng, self._lexicon.pool, source.low, source.high, source.step)
            answers = grammar.number_answers(name, number)
        elif source.how == "date":
            answers = (grammar.date_answer(*self._day(rng)),)
        else:
            answers = (self._word(rng, "other"),)
        return Fact(name, grammar.form(answers[0]), answers)

    def _linked(self, rng: random.Random, source: Source, entity: Entity, block: Block) -> Entity | None:
        """A fitting entity that shares no word with the name of `entity` (it would give the answer away)."""
        words = set(entity.name.split())
        nearby = [other for other in block.entities if other.kind == source.target and other.index != entity.index]
        rng.shuffle(nearby)
        if source.target == "place" and self._places and rng.random() < _OLD_PLACE:
            nearby.insert(0, rng.choice(self._places))
        for other in nearby:
            fits = source.age is None or source.age[0] <= entity.year - other.year <= source.age[1]
            if fits and words.isdisjoint(other.name.split()):
                return other
        return None

    def _two_words(self, rng: random.Random, name: str) -> str:
        first, second = self._lexicon.values[name]
        return f"{rng.choice(first)} {rng.choice(second)}"

    def _day(self, rng: random.Random) -> tuple[int, int]:
        for _ in range(_ATTEMPTS):
            month = rng.randint(1, 12)
            day = rng.randint(1, _DAYS[month - 1])
            if pool_of(f"{month}-{day}") == self._lexicon.pool:
                return month, day
        raise CorpusError("no day of the year belongs to the pool", where="almanac")
