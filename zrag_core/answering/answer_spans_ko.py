"""Korean answer spans: runs of word units (eojeol) with the last one's particle taken off.

The particle that is taken off says what the span does in its sentence (subject, place, agent), which
stands in for the prepositions and capitals that the English spans are judged by. Rules, not learned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from zrag_core.answer_matching import follows
from zrag_core.answering.answer_spans import QuestionForm, answer_type, distances

_UNIT = re.compile(r"\S+")
_EDGE = "\"'“”‘’「」『』《》〈〉()[],.!?;:…·"
_QUOTED = re.compile(r"[\"'“‘「『《〈]([^\"'”’」』》〉]{1,40})[\"'”’」』》〉]")
_LONGEST = 4

# Particles and forms of "to be", longest first, by what they ask of the syllable before them.
_AFTER = {
    "consonant": "으로부터 이라는 이라고 으로 은 이 을 과",
    "vowel": "로부터 라는 라고 였으며 였다 다 는 가 를 와 로",
    "any": "이었으며 이었다 입니다 이다 이며 이고 에서는 에게서 에서 에게 께서 한테 까지 부터 처럼 보다 에는 의 에 도 "
    "만",
}
_PARTICLES = sorted(
    ((particle, after) for after, particles in _AFTER.items() for particle in particles.split()),
    key=lambda pair: -len(pair[0]),
)
_ENDING_VERB = re.compile(
    r"(다|했던|하는|하여|하고|하며|되어|되는|된|한|던|았고|었고|였고|아서|어서|으며|면서|지만|는데)$"
)
_MODIFIER = re.compile(r"(하는|되는|했던|던|된|한|의|적인|라는)$")
_DATE = re.compile(r"\d+\s*(년|월|일|세기|년대|시|분)|\d{4}")
_NUMBER = re.compile(
    r"\d|^(한|두|세|네|다섯|여섯|일곱|여덟|아홉|열|수십|수백|수천)\s?(명|개|권|마리|살|번|대|곳|층|가지)?$"
)
_PLACE = re.compile(r"(시|도|군|구|국|역|강|산|섬|동|읍|면|리|마을|항|성|궁|학교|대학|공원|해|주|촌|골|만)$")

_TYPES = (
    ("time", r"언제|몇\s*(년|월|일|시|세기)|연도|어느\s*(해|날|시대)|며칠|시기"),
    ("number", r"몇|얼마|수는|개수|인구|나이|높이|길이|넓이|면적"),
    ("who", r"누구|누가|누굴|어떤\s*(사람|인물)|사람은|인물은|이름은"),
    ("where", r"어디|어느\s*(곳|나라|도시|지역|마을|도|시)|장소|수도는|위치"),
    ("reason", r"왜|이유|까닭|어떻게"),
)
_ASKING = re.compile(r"^(누구|누가|누굴|언제|어디|무엇|무슨|어떤|어느|몇|왜|얼마|어떻게|뭐|며칠)")
_NOUN_ASKED = re.compile(r"(?:무슨|어떤|어느)\s*([가-힣]+)")

# "The place where ... *is X*": what a sentence ends on is what it tells.
_COPULAS = frozenset("이다 다 입니다 이었다 였다 이며 이고 이었으며 였으며".split())
# Words that point at something named before.
_POINTERS = frozenset("이 그 저 이곳 그곳 이것 그것 것 곳 그녀".split())

# Particles that mark the role asked for.
_ROLES = {
    "who": frozenset("이 가 은 는 에게 에게서 께서 와 과 의".split()),
    "where": frozenset("에서 에 에는 에서는 으로 로".split()),
    "time": frozenset("에 부터 까지 에는".split()),
    "number": frozenset("이다 을 를 이 가 의".split()),
}


def parse_question(question: str) -> QuestionForm:
    """Analyse a Korean question; its noun is the one after 무슨, 어떤 or 어느."""
    asked = _NOUN_ASKED.search(question)
    noun = split_particle(asked.group(1))[0] if asked else ""
    return QuestionForm(answer_type(_TYPES, question, "thing"), frozenset(content_stems(question)), noun)


def content_stems(text: str) -> list[str]:
    """Word units without particles, endings and question words, in order."""
    units = (unit.strip(_EDGE) for unit in text.split())
    return [split_particle(unit)[0] for unit in units if unit and not _ASKING.match(unit)]


def split_particle(unit: str) -> tuple[str, str]:
    """Split a word unit into stem and particle ("" when it ends in none).

    A particle fits its noun's last syllable, so 나이 (age) is no 나 + 이, and a stem is never empty.
    """
    for particle, after in _PARTICLES:
        stem = unit[: -len(particle)]
        if not unit.endswith(particle) or not stem or not (stem[-1].isalnum() or stem[-1] in _EDGE):
            continue
        if len(stem) == 1 and len(particle) == 1 and not stem.isdigit():
            continue
        if particle == "만" and stem[-1].isdigit():
            continue  # ten thousand, not "only"
        if follows(particle, after, stem.rstrip(_EDGE)):
            return stem, particle
    return unit, ""


def same_word(a: str, b: str) -> bool:
    """Whether two stems are forms of one word: equal, or alike in all but an ending."""
    shorter, longer = sorted((a, b), key=len)
    return a == b or (len(shorter) >= 2 and longer.startswith(shorter)) or (len(shorter) >= 3 and a[:2] == b[:2])


def candidates(form: QuestionForm, sentence: str) -> Iterator[tuple[float, str]]:
    """Yield (score, span) for every span of `sentence` that could answer; scores compare within a question."""
    found = list(_UNIT.finditer(sentence))
    units = [match.group() for match in found]
    quoted = {match.group(1) for match in _QUOTED.finditer(sentence)}
    parts = [split_particle(unit.rstrip(_EDGE)) for unit in units]
    stems = [stem.strip(_EDGE) for stem, _ in parts]
    matched = [any(same_word(stem, asked) for asked in form.stems) for stem in stems]
    places = [place for place, hit in enumerate(matched) if hit]
    for i in range(len(units)):
        for j in range(i + 1, min(len(units), i + _LONGEST) + 1):
            if j - i > 1 and units[j - 2][-1] in ",.;:!?":
                break
            end = found[j - 1].start() + len(parts[j - 1][0].rstrip(_EDGE))
            text = sentence[found[i].start() : end].lstrip(_EDGE)
            if not stems[i] or not stems[j - 1] or all(matched[i:j]):
                continue
            near = sum(1.0 / (1 + d) for d in distances(places, i, j))
            score = 6.0 * near / max(1, len(places)) - 3.0 * sum(matched[i:j]) / (j - i)
            score += _fit(form, text, parts[j - 1][1], stems[j - 1]) + _shape(parts[i:j], text in quoted)
            if i and _MODIFIER.search(stems[i - 1]) is None and parts[i - 1][1] == "" and not matched[i - 1]:
                score -= 2.0  # cuts a noun phrase in two
            if j < len(units) and parts[j - 1][1] == "" and units[j - 1][-1] not in _EDGE:
                score -= 2.0  # cuts one, or is a verb that stands before its noun
            yield score, text


def _fit(form: QuestionForm, text: str, particle: str, last: str) -> float:
    """Score of a span as an answer of the type asked for."""
    date, number = _DATE.search(text) is not None, _NUMBER.search(text) is not None
    score = 1.5 if particle in _ROLES.get(form.type, ()) else 0.0
    if form.type == "time":
        score += 5.0 if date else -3.0
    elif form.type == "number":
        score += 4.0 if number else -3.0
    elif date or number:
        score -= 2.0
    if form.type == "where" and _PLACE.search(last):
        score += 2.0
    if form.noun and last.endswith(form.noun):
        score += 3.0
    return score


def _shape(parts: list[tuple[str, str]], quoted: bool) -> float:
    """Score of a span as a whole noun phrase."""
    last, particle = parts[-1]
    score = 3.0 if quoted else 0.0
    if particle in _COPULAS:
        score += 4.0
    elif particle == "의":
        score -= 1.0
    if parts[0][0] in _POINTERS or (particle == "" and _ENDING_VERB.search(last)):
        score -= 4.0
    # Inside a phrase only 의, 와 and 과 join nouns; other particles end one.
    score -= 2.5 * sum(1 for _, inner in parts[:-1] if inner not in ("", "의", "와", "과"))
    score -= 1.5 * sum(1 for stem, inner in parts[:-1] if inner == "" and _ENDING_VERB.search(stem))
    return score - 0.3 * len(parts)
