"""What a language must know to write the almanac."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Grammar(ABC):
    """Forms of names and values in one language.

    Answers are tuples of strings, best first; the first is the bare value.
    """

    form: type[str]
    place_nouns: tuple[str, ...]

    @abstractmethod
    def mention(self, kind: str, name: str) -> str:
        """A name as it stands inside a sentence."""

    @abstractmethod
    def short_mention(self, kind: str, name: str, noun: str) -> str:
        """What a later sentence calls an entity that was named before."""

    @abstractmethod
    def year(self, year: int) -> tuple[str, ...]:
        """Answers for a year."""

    @abstractmethod
    def number(self, attribute: str, number: int) -> tuple[str, ...]:
        """Answers for the number that `attribute` counts or measures."""

    @abstractmethod
    def date(self, month: int, day: int) -> tuple[str, ...]:
        """Answers for a day of the year."""

    @abstractmethod
    def river(self, word: str) -> tuple[str, ...]:
        """Answers for a river."""

    @abstractmethod
    def named(self, kind: str, name: str) -> tuple[str, ...]:
        """Answers for a named thing."""

    @abstractmethod
    def place_name(self, prefix: str, word: str) -> str:
        """Name of a place made from a prefix and a name word."""

    @abstractmethod
    def title(self, first: str, second: str) -> str:
        """Title of a work made from two words."""

    @abstractmethod
    def title_of(self, title: str, word: str) -> str:
        """`title` made unique by a name."""

    @abstractmethod
    def sentence(self, text: str) -> str:
        """A finished sentence from a filled template."""
