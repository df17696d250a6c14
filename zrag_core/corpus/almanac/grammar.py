"""How a language writes names and values, and the forms that its words take inside a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Korean particle as templates name it -> (after a final consonant, after a vowel).
PARTICLES = {
    "은": ("은", "는"),
    "이": ("이", "가"),
    "을": ("을", "를"),
    "과": ("과", "와"),
    "으로": ("으로", "로"),
    "이다": ("이다", "다"),
    "이었": ("이었", "였"),
}
# Final consonant (jongseong index) of the digits as they are read aloud: 영 일 이 삼 사 오 육 칠 팔 구.
_DIGIT_FINALS = (21, 8, 0, 16, 0, 0, 1, 8, 8, 0)
_RIEUL = 8


class EnglishForm(str):
    """A word whose format spec `a` adds the article: `"{value:a}"` gives "an owl"."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if spec != "a":
            raise ValueError(f"unknown English form {spec!r}; use a")
        return f"an {self}" if self[0] in "aeiouAEIOU" else f"a {self}"


class KoreanForm(str):
    """A word whose format spec names the particle to append: `"{name:은}"`."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return self + particle(self, spec) if spec else str(self)


def particle(word: str, kind: str) -> str:
    """The form of particle `kind` (a key of `PARTICLES`) that follows `word`.

    으로 becomes 로 after ㄹ as well as after a vowel.
    """
    after_consonant, after_vowel = PARTICLES[kind]
    final = final_consonant(word)
    return after_vowel if final == 0 or (kind == "으로" and final == _RIEUL) else after_consonant


def final_consonant(word: str) -> int:
    """Index of the final consonant (jongseong) of the last letter or digit of `word`; 0 = a vowel.

    Punctuation and brackets after it are skipped. The index is that of Unicode's syllable
    composition, so 8 is ㄹ. Letters other than Hangul count as ending in a vowel.
    """
    for char in reversed(word):
        if "가" <= char <= "힣":
            return (ord(char) - ord("가")) % 28
        if char.isascii() and char.isdigit():
            return _DIGIT_FINALS[int(char)]
        if char.isalpha():
            return 0
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """Names and values in one language, as format strings.

    Answers are tuples of strings, best first; the first is the value as it stands in a sentence.

    Attributes:
        form: the type of words in templates, whose format specs are the language's.
        place_nouns: what a place may be called.
        mentions: kind of name -> the name inside a sentence, where it is not the bare name.
        mention_answers: whether these are answers beside the bare name.
        noun_mention: an entity that was named before, by its noun.
        years, numbers: answers for a year, and for the number of an attribute; a bare number always is one.
        months: what `date` calls them.
        date, river, place_name, title, title_of: a day, a river's name, a place's name from a prefix and a word, the
            title of a work from two words, and a title made unique by a name.
    """

    form: type[str]
    place_nouns: tuple[str, ...]
    mentions: Mapping[str, str]
    mention_answers: bool
    noun_mention: str
    years: tuple[str, ...]
    numbers: Mapping[str, str]
    months: tuple[str, ...]
    date: str
    river: str
    place_name: str
    title: str
    title_of: str

    def mention(self, kind: str, name: str) -> str:
        """A name as it stands inside a sentence."""
        return self.form(self.mentions.get(kind, "{}").format(name))

    def short_mention(self, kind: str, name: str, noun: str) -> str:
        """What a later sentence calls an entity that was named before: a person's family name, or "the town"."""
        return self.form(name.split()[-1] if kind == "person" else self.noun_mention.format(noun))

    def name_answers(self, kind: str, name: str) -> tuple[str, ...]:
        """Answers for a named thing."""
        return tuple(dict.fromkeys((name, str(self.mention(kind, name)) if self.mention_answers else name)))

    def number_answers(self, attribute: str, number: int) -> tuple[str, ...]:
        """Answers for the number that `attribute` counts or measures: with its unit, and bare."""
        digits = f"{number:,}"
        return tuple(dict.fromkeys((self.numbers[attribute].format(digits), digits)))

    def date_answer(self, month: int, day: int) -> str:
        """A day of the year."""
        return self.date.format(month=self.months[month - 1], day=day)

    @staticmethod
    def sentence(text: str) -> str:
        """A finished sentence from a filled template."""
        return text[0].upper() + text[1:]


ENGLISH = Grammar(
    form=EnglishForm,
    place_nouns=("town", "city", "village", "port"),
    mentions=dict.fromkeys(("organisation", "event", "region", "prize"), "the {}"),
    mention_answers=True,
    noun_mention="the {}",
    years=("{}",),
    numbers={"population": "{}", "elevation": "{} metres", "staff": "{}", "visitors": "{}", "pages": "{} pages"},
    months=tuple("January February March April May June July August September October November December".split()),
    date="{day} {month}",
    river="{}",
    place_name="{} {}",
    title="The {} {}",
    title_of="{title} of {name}",
)
KOREAN = Grammar(
    form=KoreanForm,
    place_nouns=("도시", "마을", "고을", "항구"),
    mentions={"work": "《{}》"},
    mention_answers=False,
    noun_mention="이 {}",
    years=("{}년", "{}"),
    numbers={"population": "{}명", "elevation": "{}미터", "staff": "{}명", "visitors": "{}명", "pages": "{}쪽"},
    months=tuple(str(month) for month in range(1, 13)),
    date="{month}월 {day}일",
    river="{}강",
    place_name="{}{}",
    title="{} {}",
    title_of="{name}의 {title}",
)
