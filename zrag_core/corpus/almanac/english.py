"""English forms: articles, and how names and numbers are written."""

from __future__ import annotations

from zrag_core.corpus.almanac.grammar import Grammar

MONTHS = "January February March April May June July August September October November December".split()
# Kinds of names that take "the" inside a sentence.
_WITH_ARTICLE = frozenset({"organisation", "event", "region", "prize"})


class EnglishForm(str):
    """A word whose format spec `a` adds the article: `"{value:a}"` gives "an owl"."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if spec != "a":
            raise ValueError(f"unknown English form {spec!r}; use a")
        return f"an {self}" if self[0] in "aeiouAEIOU" else f"a {self}"


class EnglishGrammar(Grammar):
    """How English writes the values of the almanac."""

    form = EnglishForm
    place_nouns = ("town", "city", "village", "port")
    _units = {"population": "{}", "elevation": "{} metres", "staff": "{}", "visitors": "{}", "pages": "{} pages"}

    def mention(self, kind: str, name: str) -> EnglishForm:
        """The name, with "the" where English wants it."""
        return EnglishForm(f"the {name}" if kind in _WITH_ARTICLE else name)

    def short_mention(self, kind: str, name: str, noun: str) -> EnglishForm:
        """A person's family name, else "the town"."""
        return EnglishForm(name.split()[-1] if kind == "person" else f"the {noun}")

    def year(self, year: int) -> tuple[str, ...]:
        """The bare number."""
        return (str(year),)

    def number(self, attribute: str, number: int) -> tuple[str, ...]:
        """With its unit where one stands in the sentence, and bare."""
        digits = f"{number:,}"
        return tuple(dict.fromkeys((self._units[attribute].format(digits), digits)))

    def date(self, month: int, day: int) -> tuple[str, ...]:
        """14 March."""
        return (f"{day} {MONTHS[month - 1]}",)

    def river(self, word: str) -> tuple[str, ...]:
        """The bare word ("the river Velna")."""
        return (word,)

    def named(self, kind: str, name: str) -> tuple[str, ...]:
        """A name as an answer, with and without its article."""
        return (name, f"the {name}") if kind in _WITH_ARTICLE else (name,)

    def place_name(self, prefix: str, word: str) -> str:
        """Upper Velmere."""
        return f"{prefix} {word}"

    def title(self, first: str, second: str) -> str:
        """The Silver Orchard."""
        return f"The {first.capitalize()} {second.capitalize()}"

    def title_of(self, title: str, word: str) -> str:
        """The Silver Orchard of Velna."""
        return f"{title} of {word}"

    def sentence(self, text: str) -> str:
        """Capitalise the first letter."""
        return text[0].upper() + text[1:]
