"""What the almanac tells about each kind of entity, and where the values come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["person", "place", "organisation", "work", "event"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where an attribute's value comes from.

    Attributes:
        how: "words" (first and second word of the lexicon), "number", "date", "name" (an invented
            word), "year" (the entity's own), "link" (another entity) or "shared" (the same for its
            whole region, so it identifies no document).
        target: kind of entity that a link leads to.
        low, high, step: range of a number.
        age: least and greatest difference between the entity's year and the year of the linked
            entity, so that nobody founds anything before being born.
        inferable: other documents may tell or suggest the value, so its absence is no ground for
            calling a question unanswerable.
    """

    how: Literal["words", "number", "date", "name", "year", "link", "shared"]
    target: Kind | None = None
    low: int = 0
    high: int = 0
    step: int = 1
    age: tuple[int, int] | None = None
    inferable: bool = False


_ADULT = (20, 75)

ATTRIBUTES: dict[Kind, dict[str, Source]] = {
    "person": {
        "birth_city": Source("link", "place"),
        "birth_year": Source("year"),
        "job": Source("words"),
        "employer": Source("link", "organisation", age=(-55, 200), inferable=True),
        "teacher": Source("link", "person", age=(8, 60)),
        "topic": Source("words"),
        "hobby": Source("words"),
        "pet": Source("words"),
        "prize": Source("shared"),
    },
    "place": {
        "founded_year": Source("year"),
        "population": Source("number", low=900, high=95_000, step=10),
        "product": Source("words"),
        "landmark": Source("words"),
        "mayor": Source("link", "person"),
        "railway": Source("link", "place", inferable=True),
        "elevation": Source("number", low=3, high=2_400),
        "river": Source("shared"),
    },
    "organisation": {
        "seat": Source("link", "place"),
        "founded_year": Source("year"),
        "founder": Source("link", "person", age=_ADULT),
        "director": Source("link", "person", age=(-20, 60)),
        "staff": Source("number", low=12, high=980),
        "emblem": Source("words"),
        "building": Source("words"),
        "patron": Source("link", "organisation", age=(1, 300)),
        "field": Source("shared"),
    },
    "work": {
        "creator": Source("link", "person", age=_ADULT),
        "year": Source("year"),
        "setting": Source("link", "place"),
        "holder": Source("link", "organisation"),
        "hero": Source("name"),
        "pages": Source("number", low=60, high=960),
        "cover": Source("words"),
        "theme": Source("shared"),
    },
    "event": {
        "place": Source("link", "place"),
        "year": Source("year"),
        "organiser": Source("link", "organisation"),
        "guest": Source("link", "person", age=(-20, 75)),
        "visitors": Source("number", low=200, high=60_000, step=10),
        "date": Source("date"),
        "trophy": Source("words"),
        "theme": Source("shared"),
    },
}

# The entities of one region, which is one block of documents.
BLOCK: tuple[Kind, ...] = ("person",) * 6 + ("place",) * 3 + ("organisation",) * 3 + ("work",) * 2 + ("event",) * 2
# Kind -> the attribute whose value its members of a region share; works and events share one theme.
SHARED_BY_KIND: dict[Kind, str] = {
    kind: name
    for kind, attributes in ATTRIBUTES.items()
    for name, source in attributes.items()
    if source.how == "shared"
}
SHARED = tuple(dict.fromkeys(SHARED_BY_KIND.values()))
