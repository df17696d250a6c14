"""The language of a corpus, from a look at its files."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from zrag_core.corpus.loaders.base import Source, loader_of
from zrag_core.settings import CorpusSettings
from zrag_core.text import detect_language

_FILES = 50
_BYTES = 20_000  # of each file
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")  # how JSON may spell what is not ASCII


def source_language(settings: CorpusSettings) -> str:
    """ "ko" where a fifth of the letters at the beginning of the files is Hangul, else "en"; nothing is parsed.

    What has no files (a data set of the hub) and what cannot be read counts as English: that it cannot be read is for
    the loader to say.
    """
    try:
        files = loader_of(settings.format).files(Source(settings))
        text = "\n".join(_beginning(file) for file in files[:_FILES])
    except OSError:
        text = ""
    return detect_language(_ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), text))


def _beginning(file: Path) -> str:
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        return opened.read(_BYTES).decode("utf-8", errors="ignore")
