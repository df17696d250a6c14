"""Korean forms: particles that follow the final consonant, and how names and numbers are written."""

from __future__ import annotations

from zrag_core.corpus.almanac.grammar import Grammar

# Particle named in a template -> (after a final consonant, after a vowel).
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


def particle(word: str, kind: str) -> str:
    """The form of particle `kind` (a key of `PARTICLES`) that follows `word`.

    으로 becomes 로 after ㄹ as well as after a vowel.
    """
    after_consonant, after_vowel = PARTICLES[kind]
    final = final_consonant(word)
    return after_vowel if final == 0 or (kind == "으로" and final == _RIEUL) else after_consonant


class KoreanForm(str):
    """A word whose format spec names the particle to append: `"{name:은}"`."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return self + particle(self, spec) if spec else str(self)


class KoreanGrammar(Grammar):
    """How Korean writes the values of the almanac."""

    form = KoreanForm
    place_nouns = ("도시", "마을", "고을", "항구")
    _units = {
        "population": "{}명",
        "elevation": "{}미터",
        "staff": "{}명",
        "visitors": "{}명",
        "pages": "{}쪽",
    }

    def mention(self, kind: str, name: str) -> KoreanForm:
        """Titles of works stand in brackets."""
        return KoreanForm(f"《{name}》" if kind == "work" else name)

    def short_mention(self, kind: str, name: str, noun: str) -> KoreanForm:
        """A person's family name, else "이 도시"."""
        return KoreanForm(name.split()[-1] if kind == "person" else f"이 {noun}")

    def year(self, year: int) -> tuple[str, ...]:
        """1921년, and the bare number."""
        return (f"{year}년", str(year))

    def number(self, attribute: str, number: int) -> tuple[str, ...]:
        """With its counter, and bare."""
        digits = f"{number:,}"
        return (self._units[attribute].format(digits), digits)

    def date(self, month: int, day: int) -> tuple[str, ...]:
        """3월 14일."""
        return (f"{month}월 {day}일",)

    def river(self, word: str) -> tuple[str, ...]:
        """The word with 강, as Korean names rivers."""
        return (f"{word}강",)

    def named(self, kind: str, name: str) -> tuple[str, ...]:
        """A name as an answer."""
        return (name,)

    def place_name(self, prefix: str, word: str) -> str:
        """윗벨하임."""
        return f"{prefix}{word}"

    def title(self, first: str, second: str) -> str:
        """은빛 과수원."""
        return f"{first} {second}"

    def title_of(self, title: str, word: str) -> str:
        """카르벨의 은빛 과수원."""
        return f"{word}의 {title}"

    def sentence(self, text: str) -> str:
        """Nothing to change at the start of a Korean sentence."""
        return text
