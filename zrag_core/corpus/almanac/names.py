"""Invented names, and the stable hash that gives every word and number to exactly one pool.

Names are put together from syllables, so no pretrained model knows them. A word belongs to the pool
that its CRC-32 names, whatever it is used for: no part of a name occurs in both pools, although both
are made from the same syllables and therefore from the same tokens.
"""

from __future__ import annotations

import random
import zlib
from functools import cache
from importlib import resources
from itertools import product
from typing import Any, Literal

import yaml

from zrag_core.errors import CorpusError

Language = Literal["en", "ko"]
Pool = Literal["skill", "evaluation"]
Role = Literal["given", "family", "place", "other"]

LANGUAGES: tuple[Language, ...] = ("en", "ko")
POOLS: tuple[Pool, ...] = ("skill", "evaluation")


@cache
def read_data(name: str) -> dict[str, Any]:
    """One of the package's YAML files."""
    text = (resources.files(__package__) / "data" / name).read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


def pool_of(text: str) -> Pool:
    """The pool that owns `text` (a name word or a number): two thirds go to skill, one to evaluation."""
    return "evaluation" if zlib.crc32(text.casefold().encode("utf-8")) % 3 == 0 else "skill"


@cache
def name_words(language: Language, pool: Pool, role: Role) -> tuple[str, ...]:
    """All words of `pool` for `role`: capitalised, unique, in a fixed order."""
    syllables = read_data("syllables.yaml")[language][role]
    starts, middles, ends = (syllables[part].split() for part in ("starts", "middles", "ends"))
    spelled = dict.fromkeys(
        f"{start}{'' if middle == '-' else middle}{end}".capitalize()
        for start, middle, end in product(starts, middles, ends)
    )
    return tuple(word for word in spelled if pool_of(word) == pool)


def pool_number(rng: random.Random, pool: Pool, low: int, high: int, step: int = 1) -> int:
    """A random multiple of `step` in `low..high` (both included) that belongs to `pool`.

    Raises:
        CorpusError: no number of the range belongs to the pool (the range is too narrow).
    """
    for _ in range(200):
        number = rng.randrange(-(-low // step) * step, high + 1, step)
        if pool_of(str(number)) == pool:
            return number
    raise CorpusError(f"no number of the {pool} pool between {low} and {high}", where="almanac")
