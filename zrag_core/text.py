"""Text primitives shared by tokenisation, measures and grounding; Unicode throughout.

Words and search terms follow what Lucene does for mixed text: Unicode words for scripts that
separate words by spaces, overlapping character bigrams for Hangul, Han and Kana, where a word
carries its particles and an exact word match would miss (Lucene's CJKAnalyzer).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
_CJK = _HANGUL + "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(r"\w+", re.UNICODE)
_CJK_RUN = re.compile(f"[{_CJK}]+")
_HANGUL_CHAR = re.compile(f"[{_HANGUL}]")
# Soft hyphen, zero-width space, byte order mark, marks of direction: nobody sees them, and they part words. Joiners
# stay: they shape Persian words and emoji.
_INVISIBLE = frozenset("\u00ad\u180e\u200b\u200e\u200f\ufeff") | frozenset(
    map(chr, (*range(0x202A, 0x202F), *range(0x2060, 0x2065), *range(0x2066, 0x206A)))
)
_FILLERS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")  # letters and signs that show nothing


@dataclass(frozen=True, slots=True)
class TextSlice:
    """A piece of a text: characters `start` (included) to `end` (excluded)."""

    start: int
    end: int
    text: str


def normalize(text: str) -> str:
    """Return `text` in Unicode NFC without control and invisible characters (tabs and line ends stay)."""
    kept = (ch for ch in text if ch in "\n\t" or (ch not in _INVISIBLE and unicodedata.category(ch) != "Cc"))
    return unicodedata.normalize("NFC", "".join(kept))


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen."""
    return all(ch.isspace() or ch in _FILLERS or unicodedata.category(ch) in ("Cc", "Cf") for ch in text)


def fold_width(text: str) -> str:
    """Full-width letters and signs, and half-width Kana and Hangul, in their usual width."""
    return "".join(
        unicodedata.normalize("NFKC", ch) if unicodedata.decomposition(ch).startswith(("<wide>", "<narrow>")) else ch
        for ch in text
    )


def words(text: str) -> list[str]:
    """Casefolded Unicode words (NFKC), for measures and display."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def comparison_key(text: str) -> str:
    """Casefolded words joined by spaces, or the casefolded text where it holds no word: for telling repeats."""
    return " ".join(words(text)) or unicodedata.normalize("NFKC", text).casefold().strip()


def search_terms(text: str) -> list[str]:
    """Index terms: words, with runs of Hangul, Han or Kana replaced by their character bigrams."""
    terms: list[str] = []
    for word in words(text):
        position = 0
        for run in _CJK_RUN.finditer(word):
            if run.start() > position:
                terms.append(word[position : run.start()])
            chars = run.group()
            terms.extend([chars] if len(chars) == 1 else (chars[i : i + 2] for i in range(len(chars) - 1)))
            position = run.end()
        if position < len(word):
            terms.append(word[position:])
    return terms


def has_hangul(text: str) -> bool:
    """Whether `text` holds a Hangul character."""
    return _HANGUL_CHAR.search(text) is not None


def detect_language(text: str) -> str:
    """Return "ko" when Hangul makes up at least a fifth of the letters, else "en"."""
    letters = [ch for ch in text if ch.isalpha()]
    hangul = sum(1 for ch in letters if _HANGUL_CHAR.match(ch))
    return "ko" if letters and hangul * 5 >= len(letters) else "en"


def evidence_tokens(text: str) -> int:
    """The one token count used for every system: UTF-8 bytes / 4, rounded up."""
    return -(-len(text.encode("utf-8")) // 4)


def truncate_to_tokens(text: str, budget: int) -> str:
    """Cut `text` at a word boundary so that `evidence_tokens` is at most `budget`."""
    if evidence_tokens(text) <= budget:
        return text
    cut = text.encode("utf-8")[: budget * 4].decode("utf-8", errors="ignore")
    if not text[len(cut)].isspace() and (boundary := max(cut.rfind(" "), cut.rfind("\n"))) > 0:
        cut = cut[:boundary]
    return cut.rstrip()
