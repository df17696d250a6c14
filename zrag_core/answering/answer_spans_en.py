"""English answer spans: every short span of a sentence, scored by a linear model over readable features.

The features follow the hand-made ones of early SQuAD systems (Rajpurkar et al. 2016, section 5):
question type against kind of span, where the span begins and ends, and how near it stands to
words of the question. The weights are few, rounded, and the same for every text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from zrag_core.answering.answer_spans import QuestionForm, answer_type, distances

_TOKEN = re.compile(
    r"[$£€₩]?\d+(?:[.,:]\d+)*(?:st|nd|rd|th|s)?%?|[^\W\d_]+(?:[-'’.&/][^\W_]+)*\.?(?<=[A-Z]\.)|\w+(?:[-'’&/]\w+)*|[^\w\s]"
)
_YEAR = re.compile(r"(?:1\d|20)\d\ds?")
_LONGEST = 9
_HARD_STOPS = set(";:()[]!?.–—")
_QUOTES = set('"“”')

_KINDS = {
    "prep": "of in on at by to from for with as into during between among through under over against about within "
    "since until after before near per via than like throughout toward towards around across",
    "be": "is are was were be been being am has have had do does did can could will would may might must shall should",
    "article": "the a an its his her their this these those some any",
    "conj": "and or but nor",
    "function": "that which who whom whose when where while it he she they i we you there not also only if because so "
    "such both more most very then",
    "number": "one two three four five six seven eight nine ten eleven twelve thirteen fifteen twenty thirty "
    "forty fifty hundred hundreds thousand thousands million billion trillion dozen half third quarter twice once "
    "first second",
}
_KIND_OF = {word: kind for kind, words in _KINDS.items() for word in words.split()}
_MONTHS = frozenset("january february march april may june july august september october november december".split())
_MONEY = frozenset("percent million billion dollars euros pounds".split())
QUESTION_WORDS = frozenset("what which who whom whose how why when where".split())

# Matched at the question word ("in *which year* did..."); the first that fits decides.
_TYPES = (
    ("number", r"^how (?:many|few|long|old|far|tall|high|large|big|often|deep|fast|wide|heavy)\b"),
    ("amount", r"^(?:how much\b|wh\w+ (?:\w+ )?(?:percent\w*|proportion|fraction|share|costs?|prices?)\b)"),
    ("number", r"^wh\w+ (?:is |was |were |are )?(?:the )?(?:\w+ )?(?:number|age|speed|temperature|population)\b"),
    (
        "time",
        r"^(?:when\b|wh\w+ (?:(?:is|was) the )?(?:\w+ )?"
        r"(?:year|decade|century|date|day|month|time|season|period|era)\b)",
    ),
    ("who", r"^who(?:m|se)?\b"),
    (
        "where",
        r"^(?:where\b|wh\w+ (?:\w+ )?(?:city|country|state|place|town|county|location|region|island|street|continent|"
        r"area|river|borough|village|building)\b)",
    ),
    ("reason", r"^(?:why|how)\b"),
)
_ASKED = re.compile(r"\b(?:what|which|whom?|whose|where|when|how|why)\b")


def _weights(*table: str) -> dict[str, float]:
    pairs = (entry.rsplit(" ", 1) for line in table for entry in line.split("; "))
    return {name: float(weight) for name, weight in pairs}


_WEIGHTS = _weights(
    # The kind of answer that is asked for.
    "amount is money 5.5; amount is name -2.5; number is name -3.5; number is number 4; thing is date -2",
    "thing is money 1.5; time is date 6; time is name -3; where is date -1; where is name 3.5; which is date -1.5",
    "which is name 2.5; who is name 4",
    # How many words it has.
    "amount, length -1; number, length -1.5; reason, length 2; thing, single -2.5; time, length -1",
    "which, single -2.5; who, single -3",
    # What stands before it.
    "left name -3; left number -3; left prep 1; left start -1; left verb 1.5; number, left prep 1; quoted 2.5",
    "thing, left in -1; thing, left quote 4.5; time, left in 1.5; where, left in 3; which, left article 1",
    "who, left by 2",
    # What stands behind it.
    "right be 1.5; right comma 1.5; right end 2; right lower -2; right name -3; right number -3.5",
    # What it is made of.
    "first be -2; first matched -1; first name 3.5; first number 3.5; first prep -2.5; inside be -2",
    "inside conj 1.5; inside mark -1.5; inside prep -1; inside verb -1.5; last matched -2.5; last name 2.5",
    "last number 1.5; last verb -2; matched share -3; mixed case -1",
    # Where it stands to the words of the question.
    "far -3; last word after -1.5; last word before 1.5; near 6.5; noun after 4; noun before 3; noun inside 3",
)


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    word: str
    stem: str
    kind: str
    matched: bool


def parse_question(question: str) -> QuestionForm:
    """Analyse an English question."""
    content = content_stems(question)
    # A capital inside the question belongs to a name ("the band The Who"), not to a question word.
    lowered = question[:1].casefold() + question[1:]
    asked = _ASKED.search(lowered)
    tail = question[asked.start() :].casefold() if asked else ""
    following = [match.group() for match in _TOKEN.finditer(tail)][1:]
    if following[:1] in (["many"], ["much"]):
        del following[0]
    # "which *team* won": the noun right after the question word names the kind of answer.
    noun = stem(following[0]) if following and following[0].isalpha() and following[0] not in _KIND_OF else ""
    kind = answer_type(_TYPES, tail, "which" if noun else "thing")
    return QuestionForm(kind, frozenset(content), noun, content[-1] if content else "")


def content_stems(text: str) -> list[str]:
    """Stems of the words that carry meaning, in order."""
    found = (match.group().casefold() for match in _TOKEN.finditer(text))
    return [
        stem(word)
        for word in found
        if word[0].isalnum() and _KIND_OF.get(word, "number") == "number" and word not in QUESTION_WORDS
    ]


def stem(word: str) -> str:
    """A crude stem: common endings off, six letters kept, so that "founded", "founder" and "founding" meet."""
    word = word.casefold()
    for ending in ("ings", "edly", "ing", "ion", "ies", "ed", "es", "er", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:6]


def candidates(form: QuestionForm, sentence: str) -> Iterator[tuple[float, str]]:
    """Yield (score, span) for every span of `sentence` that begins and ends where an answer may.

    Scores compare within a question.
    """
    tokens = _tokens(form, sentence)
    for i, first in enumerate(tokens):
        if first.kind == "mark":
            continue
        for j in range(i + 1, min(len(tokens), i + _LONGEST) + 1):
            last = tokens[j - 1]
            if last.word in _HARD_STOPS or last.word in _QUOTES:
                break
            if last.kind in ("verb", "be") and j - i > 1 and tokens[j - 2].kind == "conj":
                break  # "in Bath *and died* in York": another clause begins
            if last.kind in ("mark", "conj", "prep", "be", "article", "function"):
                continue
            if not all(token.matched for token in tokens[i:j]):
                features = _features(form, tokens, i, j)
                score = sum(_WEIGHTS.get(name, 0.0) * value for name, value in features.items())
                yield score, sentence[first.start : last.end]


def _tokens(form: QuestionForm, sentence: str) -> list[_Token]:
    tokens: list[_Token] = []
    for match in _TOKEN.finditer(sentence):
        word = match.group()
        kind, root = _kind(word), stem(word)
        matched = kind in ("lower", "verb", "adverb", "name", "number") and root in form.stems
        tokens.append(_Token(match.start(), match.end(), word, root, kind, matched))
    return tokens


def _kind(word: str) -> str:
    lower = word.casefold()
    if any(ch.isdigit() for ch in word[:2]) or (lower in _MONTHS and word[0].isupper()):
        return "number"
    if not word[0].isalnum():
        return "mark"
    if lower in _KIND_OF:
        return _KIND_OF[lower]
    if word[0].isupper():
        return "name"
    if lower.endswith(("ed", "ing")):
        return "verb"
    return "adverb" if lower.endswith("ly") else "lower"


def _features(form: QuestionForm, tokens: list[_Token], i: int, j: int) -> dict[str, float]:
    span, size = tokens[i:j], j - i
    kinds = [token.kind for token in span]
    left, right = _border(tokens, i - 1), _border(tokens, j)
    features = {
        f"{form.type} is {_category(span)}": 1.0,
        f"left {left}": 1.0,
        f"{form.type}, left {left}": 1.0,
        f"right {right}": 1.0,
        f"first {'matched' if span[0].matched else kinds[0]}": 1.0,
        f"last {'matched' if span[-1].matched else kinds[-1]}": 1.0,
        f"{form.type}, length": float(size),
        "matched share": sum(token.matched for token in span) / size,
    }
    features |= {f"inside {kind}": 1.0 for kind in kinds[1:-1]}
    if size == 1:
        features[f"{form.type}, single"] = 1.0
    if left == right == "quote":
        features["quoted"] = 1.0
    if any({a, b} == {"name", "lower"} for a, b in itertools.pairwise(kinds)):
        features["mixed case"] = 1.0
    places = [place for place, token in enumerate(tokens) if token.matched]
    away = distances(places, i, j)
    features["near"] = sum(1.0 / (1 + d) for d in away) / max(1, len(places))
    if away and min(away) > 4:
        features["far"] = 1.0
    before = {token.stem for token in tokens[max(0, i - 2) : i]}
    after = {token.stem for token in tokens[j : j + 2]}
    if form.noun:
        features["noun inside"] = float(form.noun in {token.stem for token in span[:-1]})
        features["noun before"] = float(form.noun in before)
        features["noun after"] = float(form.noun in after)
    features["last word before"] = float(form.last in before)
    features["last word after"] = float(form.last in after)
    return features


def _category(span: list[_Token]) -> str:
    words = [token.word.casefold() for token in span]
    if any(
        _YEAR.fullmatch(w) or w.startswith("centur") or (w in _MONTHS and t.kind == "number")
        for w, t in zip(words, span, strict=True)
    ):
        return "date"
    kinds = [token.kind for token in span]
    if "number" in kinds:
        money = any(w[0] in "$£€₩" or w[-1] == "%" or w in _MONEY for w in words)
        return "money" if money else "number"
    return "name" if "name" in kinds[:2] else "phrase"


def _border(tokens: list[_Token], at: int) -> str:
    """Class of the token beside a span."""
    if not 0 <= at < len(tokens):
        return "start" if at < 0 else "end"
    token = tokens[at]
    if token.kind == "mark":
        return "quote" if token.word in _QUOTES else "comma" if token.word == "," else "end"
    if token.matched:
        return "matched"
    lower = token.word.casefold()
    return lower if lower in ("by", "of", "to", "as", "in", "from") else token.kind
