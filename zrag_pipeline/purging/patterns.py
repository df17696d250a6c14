"""Patterns that find the text of a document, whatever has been done to it on the way into a file.

Sentences are compared by their letters and digits alone, casefolded, so that JSON, HTML and Markdown escapes, marks
inside a sentence, line breaks and punctuation make no difference. Titles are compared as they are spelled: they are
short, and `Memory report` must not be found in `memory_report`.
"""

from __future__ import annotations

import functools
import html
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from zrag_core.corpus.types import Document
from zrag_core.sentences import split_sentences

LEAST_BYTES = 20
"""Sentences of fewer bytes (UTF-8) say too little to be looked for by themselves."""
MARK = "[purged]"
"""Stands where text was erased from a file that is kept."""

# A sentence that was cut (evidence at its budget, a preview in a table) is found by its beginning: so many letters, and
# more where another document's sentence begins alike.
_BEGINNING, _MORE = 20, 4
_LEAST_TITLE_BYTES = 8
_SURROGATES = range(0xD800, 0xE000)

_TAG = r"</?(?:a|b|br|code|div|em|h[1-6]|i|li|mark|p|pre|small|span|strong|sub|sup|t[dhr]|u|ul)\b[^<>]{0,300}>"
_ESCAPED = rf"\\+u(?P<code>[0-9a-fA-F]{{4}})|(?P<line>\\+[nrtbf])|(?P<tag>{_TAG})|&(?P<entity>#?\w{{1,32}});"
_LETTERS = re.compile(rf"{_ESCAPED}|(?P<plain>[^\W_])")
_SPELLED = re.compile(rf"{_ESCAPED}|(?P<plain>[^\\\s])|(?P<space>\s)")
_TAGS = re.compile(_TAG)
_CODE = re.compile(r"\\+u([0-9a-fA-F]{4})")
_LINE = re.compile(r"\\+[nrtbf]")
_BETWEEN = re.compile(r"[\W_]+")
_SPACED = re.compile(r"\s+")
_CJK = "\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"


@dataclass(frozen=True)
class Patterns:
    """Sentences and titles to look for; none that a remaining document holds as well.

    Attributes:
        sentences: the document's sentences of at least `LEAST_BYTES` bytes, its whole text where there is none, and
            what was asked about it.
        titles: its titles, where they are more than one common word.
        shared: how many pieces are left out because a remaining document, or an id, holds them too.
        plain: titles that are left out because they are one common word.
    """

    sentences: tuple[str, ...]
    titles: tuple[str, ...]
    shared: int = 0
    plain: tuple[str, ...] = ()
    _needles: tuple[str, ...] = ()
    _runs: tuple[str, ...] = ()

    def find(self, text: str) -> Literal["sentence", "title"] | None:
        """Return which kind of piece of the document stands in `text`, if any."""
        held = letters(text)
        if any(needle in held for needle in self._needles):
            return "sentence"
        if self.titles:
            plain = _spelled(text)
            if any(pattern.search(plain) for pattern in self._title_patterns):
                return "title"
        return None

    def find_bytes(self, data: bytes) -> Literal["sentence", "title"] | None:
        """The same for bytes, where it stands in its own spelling: as UTF-8, UTF-16, UTF-32, or inside JSON."""
        for what, forms in self._forms:
            if any(form in data for form in forms):
                return what
        return None

    def redact(self, text: str) -> str:
        """`text` with every piece of the document replaced by `MARK`; tags inside a piece stay."""
        if self._needles:
            text = self._without_sentences(text)
        for pattern in self._title_patterns:
            plain, starts, ends = _mapped(text, _SPELLED)
            text = _cut(text, [(starts[m.start()], ends[m.end() - 1]) for m in pattern.finditer(plain)])
        return text

    def _without_sentences(self, text: str) -> str:
        held, starts, ends = _mapped(text, _LETTERS)
        places: list[tuple[int, int]] = []
        for needle in self._needles:
            at = held.find(needle)
            while at >= 0:
                possible = [text for text in self._continuations if text.startswith(needle)]
                whole = max(_common_length(held, at, text) for text in possible)
                places.append((starts[at], ends[at + whole - 1]))
                at = held.find(needle, at + 1)
        return _cut(text, places)

    @functools.cached_property
    def _continuations(self) -> tuple[str, ...]:
        """What may follow a needle, as far as it does: the rest of its sentence, and of the document after that."""
        return tuple(form for text in (*self.sentences, *self._runs) for form in _forms_of(text))

    @functools.cached_property
    def _title_patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(_title_pattern(title) for title in self.titles)

    @functools.cached_property
    def _forms(self) -> tuple[tuple[Literal["sentence", "title"], tuple[bytes, ...]], ...]:
        sentences = []
        for sentence in self.sentences:
            held = letters(sentence)
            needle = next(needle for needle in self._needles if held.startswith(needle))
            sentences.append(_beginning(sentence, len(needle)))
        return (("sentence", _encoded(sentences)), ("title", _encoded(self.titles)))


def make_patterns(
    documents: Sequence[Document], asked: Iterable[str], remaining: Iterable[str], ids: Iterable[str]
) -> Patterns:
    """Return the patterns of a document.

    Args:
        documents: every version of the document (or its passages) that is known.
        asked: questions and queries about it.
        remaining: titles and texts of every other document.
        ids: of the documents; an id stays on record, so a title that is a part of it may stay.
    """
    texts = dict.fromkeys(piece for document in documents for piece in _pieces(document.text))
    texts |= dict.fromkeys(question for question in asked if len(question.encode()) >= LEAST_BYTES)
    named = dict.fromkeys(document.title for document in documents if document.title)
    titles = [title for title in named if _is_distinctive(title)]
    others = list(remaining)
    elsewhere = "\x1f".join(letters(text) for text in others)
    spelled = "\x1f".join([*map(_spelled, others), *ids])
    sentences = tuple(text for text in texts if letters(text) and letters(text) not in elsewhere)
    own_titles = tuple(title for title in titles if not _title_pattern(title).search(spelled))
    needles: dict[str, None] = {}
    for form in (form for sentence in sentences for form in _forms_of(sentence)):
        lengths = range(_BEGINNING, len(form), _MORE)
        needles[next((form[:n] for n in lengths if form[:n] not in elsewhere), form)] = None
    shared = len(texts) - len(sentences) + len(titles) - len(own_titles)
    plain = tuple(title for title in named if not _is_distinctive(title))
    runs = dict.fromkeys(d.text[span.start :] for d in documents for span in split_sentences(d.text))
    return Patterns(sentences, own_titles, shared, plain, tuple(needles), tuple(runs))


def letters(text: str) -> str:
    """The letters and digits of `text` without regard to case, escapes, tags and whatever stands between them."""
    if "\\" in text:
        text = _LINE.sub(" ", _CODE.sub(lambda match: _character(match[1]), text))
    if "<" in text:
        text = _TAGS.sub("", text)
    if "&" in text:
        text = html.unescape(text)
    return _folded(_BETWEEN.sub("", text))


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    # What lies beyond 16 bits is left out on both sides: JSON escapes it in two halves.
    return "".join(character for character in text.casefold() if character <= "\uffff")


def _character(code: str) -> str:
    number = int(code, 16)
    return " " if number in _SURROGATES else chr(number)


def _spelled(text: str) -> str:
    """Text as it is read: escapes resolved, tags and backslashes left out, every white space one blank."""
    text = _LINE.sub(" ", _CODE.sub(lambda match: _character(match[1]), text)).replace("\\", "")
    return _SPACED.sub(" ", html.unescape(_TAGS.sub("", text)))


def _mapped(text: str, steps: re.Pattern[str]) -> tuple[str, list[int], list[int]]:
    """What `letters` or `_spelled` make of `text`, and where each of its characters begins and ends in `text`."""
    made: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    spelled = steps is _SPELLED
    for match in steps.finditer(text):
        kind = match.lastgroup
        if kind == "tag":
            continue
        found = match[0]
        if kind == "code":
            found = _character(match["code"])
        elif kind == "entity":
            found = html.unescape(found)
        elif kind in ("line", "space"):
            found = " "
        if not spelled:
            found = _folded(_BETWEEN.sub("", found))
        elif found.isspace():
            found = "" if made and made[-1] == " " else " "
        for character in found:
            made.append(character)
            starts.append(match.start())
            ends.append(match.end())
    return "".join(made), starts, ends


def _cut(text: str, places: Iterable[tuple[int, int]]) -> str:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    for start, end in reversed(merged):
        text = text[:start] + MARK + "".join(_TAGS.findall(text[start:end])) + text[end:]
    return text


def _common_length(held: str, at: int, wanted: str) -> int:
    """How many characters of `wanted` stand in `held` at a place."""
    length = min(len(wanted), len(held) - at)
    return next((i for i in range(length) if held[at + i] != wanted[i]), length)


def _forms_of(sentence: str) -> tuple[str, ...]:
    """A sentence as `letters` finds it: by itself, and where HTML shows tags in it as text."""
    return tuple(dict.fromkeys((letters(sentence), letters(html.escape(sentence)))))


def _beginning(text: str, n: int) -> str:
    """`text` up to its n-th letter, or to its last one."""
    _, _, ends = _mapped(text, _LETTERS)
    return text[: ends[min(n, len(ends)) - 1]] if ends else text


def _pieces(text: str) -> list[str]:
    long = [span.text for span in split_sentences(text) if len(span.text.encode()) >= LEAST_BYTES]
    return long or [text]


def _is_distinctive(title: str) -> bool:
    """Whether a title is worth looking for: one plain word (`evaluation`) stands everywhere and means nothing."""
    return len(title.encode()) >= _LEAST_TITLE_BYTES and (" " in title or not title.isascii())


def _title_pattern(title: str) -> re.Pattern[str]:
    # A Korean title may carry a particle.
    spelled = _spelled(title).strip()
    return re.compile(rf"(?<!\w){re.escape(spelled)}" + ("" if re.search(f"[{_CJK}]$", spelled) else r"(?!\w)"))


def _encoded(texts: Iterable[str]) -> tuple[bytes, ...]:
    forms: dict[bytes, None] = {}
    for text in texts:
        forms |= dict.fromkeys(text.encode(code) for code in ("utf-8", "utf-16-le", "utf-32-le"))
        forms |= dict.fromkeys(json.dumps(text, ensure_ascii=ascii)[1:-1].encode() for ascii in (True, False))
    return tuple(forms)
