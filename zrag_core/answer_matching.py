"""Whether and where an answer stands in a text: word by word, in Korean with the particles that may follow it, and sign
by sign in scripts without spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
_IDEOGRAPHIC = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"  # Han and Kana
_SPACED = rf"[^\W{_HANGUL}{_IDEOGRAPHIC}]"  # of the scripts that put spaces between words, digits among them
# Words, where a change of script ends one ("NASA가", "1990年") and each sign of Han and Kana, which know no spaces, is
# one. A number with its separators is one word: "3" is not covered by "3.5", and "1,000" is "1000". A chain such as
# 2020.5.3 is a date, and stays three words.
_TOKEN = re.compile(
    rf"(?<![.,])(?<!{_SPACED})(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)(?:\.\d+)?|\d++\.\d++(?!\.\d)){_SPACED}*"
    rf"|[^\W_{_HANGUL}{_IDEOGRAPHIC}]+|[{_HANGUL}]+|[{_IDEOGRAPHIC}]"
)
_ARTICLES = frozenset(("a", "an", "the"))
_YES_NO = frozenset(("yes", "no", "예", "네", "아니오", "아니요"))

# Particles and endings of the copula that may follow a noun, by what they ask of its last syllable.
# Left out, because they make other words at least as often: 인 (한국 + 인, a Korean), 일, 임, and
# 고 and 자 after a vowel.
_PARTICLES = {
    "any": "의 에 에게 에게서 에서 에는 에도 에만 에의 에서는 에서도 에서의 에서만 에선 에게는 에게도 께 께서 께서는 "
    "한테 도 만 만이 만을 만의 까지 까지의 까지는 까지도 부터 부터는 부터의 마다 조차 마저 밖에 처럼 보다 보다는 같이 "
    "만큼 대로 뿐 하고 하고는 였다 이었다 입니다 이다 이며 이고 이자 이지만",
    "consonant": "은 이 을 과 과의 과는 과도 으로 으로는 으로도 으로서 으로써 으로부터 으로의 이나 이든 이든지 이라도 "
    "이라는 이라고 이라 이란 이랑 이라며 이었고 이었으며 이었던 이었지만 이에요 이어서 이므로",
    "vowel": "는 가 를 와 와의 와는 와도 로 로는 로도 로서 로써 로부터 로의 나 든 든지 라도 라는 라고 라 란 랑 라며 다 "
    "며 였고 였으며 였던 였지만 지만 예요 여서 므로",
}
_AFTER = {particle: after for after, particles in _PARTICLES.items() for particle in particles.split()}
_RIEUL = 8  # index of the final consonant ㄹ, after which 로 stands instead of 으로


def answer_coverage(evidence: str, golden_answers: Sequence[str], language: str) -> bool | None:
    """Whether a golden answer stands in the evidence as a sequence of normalised words.

    Words are casefolded, numbers lose their thousands separators, and English articles do not count. In
    Korean text the last word of the answer may carry a particle or a form of the copula that fits its
    last sound ("서울" in "서울에서"), but not another noun ("서울대학교"). A change of script ends a word ("57" in
    "57년"), and Han and Kana are compared sign by sign, as they know no spaces.

    Args:
        evidence: the text handed to the reader.
        golden_answers: accepted answers, any of which counts.
        language: of the question; "ko" keeps the articles of foreign names.

    Returns:
        None without golden answers, and for yes/no questions, whose answer is not in any text.
    """
    if not golden_answers or any(_is_yes_no(answer) for answer in golden_answers):
        return None
    tokens = _tokens(evidence)
    bare = _without_articles(tokens) if language != "ko" else tokens
    for answer in golden_answers:
        wanted = _tokens(answer)
        if not wanted:
            # An answer of signs alone, a formula's operator for instance.
            if answer.strip() and answer.strip() in evidence:
                return True
            continue
        content = _without_articles(wanted) if language != "ko" else wanted
        if _contains(bare, content) if content else _contains(tokens, wanted):
            return True
    return False


def answer_spans(text: str, golden_answers: Sequence[str], language: str) -> list[tuple[int, int]]:
    """Where golden answers stand in a text, by the rules of `answer_coverage`.

    Args:
        text: evidence or a document.
        golden_answers: accepted answers; all of them are looked for.
        language: of the question.

    Returns:
        Characters (start, end) of each occurrence, in order, without particles behind it; they may overlap. Empty for
        yes/no questions, whose answer is not in any text.
    """
    if any(_is_yes_no(answer) for answer in golden_answers):
        return []
    normal, origin = _normal_with_origin(text)
    places = [(match.start(), match.end(), match.group().replace(",", "")) for match in _TOKEN.finditer(normal)]
    bare = [place for place in places if language == "ko" or place[2] not in _ARTICLES]
    found: set[tuple[int, int]] = set()
    for answer in golden_answers:
        wanted = _tokens(answer)
        content = _without_articles(wanted) if language != "ko" else wanted
        if not wanted and (signs := answer.strip()):
            found.update((match.start(), match.end()) for match in re.finditer(re.escape(signs), text))
        elif wanted:
            within, sought = (bare, content) if content else (places, wanted)
            for end, particle in _occurrences([token for *_, token in within], sought):
                first, last = within[end - len(sought) + 1], within[end]
                found.add((origin[first[0]], origin[last[1] - len(particle) - 1] + 1))
    return sorted(found)


def follows(particle: str, after: str, word: str) -> bool:
    """Whether a Korean particle fits the last sound of a word.

    Args:
        particle: "으로" for instance, which becomes "로" after ㄹ as well as after a vowel.
        after: what it follows: a "consonant", a "vowel", or "any" sound.
        word: before it; a word that does not end in Hangul, whose sound is not known, takes every particle.
    """
    syllable = word[-1:]
    if after == "any" or not "가" <= syllable <= "힣":
        return True
    final = (ord(syllable) - ord("가")) % 28
    closed = final != 0 and not (final == _RIEUL and particle.startswith(("로", "으로")))
    return closed == (after == "consonant")


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[str, ...]:
    normal = unicodedata.normalize("NFKC", text).casefold()
    return tuple(token.replace(",", "") for token in _TOKEN.findall(normal))


@lru_cache(maxsize=4096)
def _without_articles(tokens: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(token for token in tokens if token not in _ARTICLES)


def _is_yes_no(answer: str) -> bool:
    tokens = _tokens(answer)
    return len(tokens) == 1 and tokens[0] in _YES_NO


def _contains(tokens: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether `wanted` is a run of `tokens`, the last of which may carry a particle."""
    return next(_occurrences(tokens, wanted), None) is not None


def _occurrences(tokens: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Index of the last token of each run of `tokens` that is `wanted`, and the particle that it carries, if any."""
    *before, last = wanted
    for end in range(len(before), len(tokens)):
        if tokens[end].startswith(last) and list(tokens[end - len(before) : end]) == before:
            rest = tokens[end][len(last) :]
            if not rest or (rest in _AFTER and follows(rest, _AFTER[rest], last)):
                yield end, rest


def _normal_with_origin(text: str) -> tuple[str, list[int]]:
    """The text as `_tokens` reads it, and for each of its characters the one of `text` that it comes from.

    Characters are normalised one by one, so that signs that compose with the one before (half-width Kana) stay apart;
    corpus texts are composed already.
    """
    pieces = [unicodedata.normalize("NFKC", character).casefold() for character in text]
    return "".join(pieces), [position for position, piece in enumerate(pieces) for _ in piece]
