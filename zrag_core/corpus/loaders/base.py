"""What every corpus format provides: the loader interface, and the source that loaders read."""

from __future__ import annotations

import hashlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zrag_core.corpus.loaders.rows import read_json
from zrag_core.corpus.types import Corpus
from zrag_core.corpus_formats import FORMATS
from zrag_core.errors import CorpusError
from zrag_core.settings import CorpusSettings


@dataclass(frozen=True)
class Source:
    """Where a corpus lies, and the settings that it is read with."""

    settings: CorpusSettings

    @property
    def location(self) -> str:
        """`corpus.location` as it was given; "" where the format needs none."""
        return (self.settings.location or "") if FORMATS[self.settings.format].summary else ""

    @cached_property
    def path(self) -> Path:
        """The location as a path; nothing need be there."""
        return Path(self.location).expanduser()

    @cached_property
    def json(self) -> Any:
        """The content of a JSON file, parsed once for all loaders that look at it.

        Raises:
            CorpusError: the file cannot be read, or is no JSON.
        """
        return read_json(self.path)


class CorpusLoader(ABC):
    """Reads corpora of one format; the defaults are those of a format that is one file.

    Attributes:
        suffixes: endings of its files, without .gz; the name of a corpus is its file's without them.
    """

    suffixes: tuple[str, ...] = ()

    @abstractmethod
    def load(self, source: Source) -> Corpus:
        """Read the documents and questions; their splits may be left open.

        Raises:
            CorpusError: the source cannot be read.
            ProblemList: bad rows, all of them, each with its place and reason.
        """

    def detects(self, source: Source) -> bool:
        """Whether the format `auto` takes the source for one of this format."""
        return False

    def files(self, source: Source) -> list[Path]:
        """The files whose bytes make up the corpus; none where there is no corpus of this format."""
        return [source.path] if source.path.is_file() else []

    def remote(self, source: Source) -> bool:
        """Whether a source without files is a corpus all the same, known by its location and settings alone."""
        return False

    def is_path(self, source: Source) -> bool:
        """Whether the location is taken for a path (else for a name)."""
        return source.path.exists()

    def name(self, source: Source) -> str:
        """The name of the corpus, known without reading it."""
        path = source.path
        if not self.is_path(source):
            return source.location.rstrip("/").rsplit("/", 1)[-1]
        if path.is_dir():
            return path.resolve().name
        name = path.name.removesuffix(".gz")
        return Path(name).stem if name.lower().endswith(self.suffixes) else name

    def key(self, source: Source) -> str:
        """The name made unique by a short hash of where the corpus lies."""
        place = str(source.path.resolve()) if self.is_path(source) else source.location.rstrip("/")
        return f"{self.name(source)}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


class JsonLoader(CorpusLoader):
    """Reads a format that is one JSON file (.gz too)."""

    suffixes = (".json",)

    @abstractmethod
    def matches(self, data: Any) -> bool:
        """Whether parsed JSON looks like this format."""

    @abstractmethod
    def parse(self, data: Any, name: str, source: str) -> Corpus:
        """Turn parsed JSON into a corpus called `name`; `source` is the file's name for messages.

        Raises:
            ProblemList: bad entries, all of them, each with its place in the file.
        """

    def detects(self, source: Source) -> bool:
        """Whether the source is a JSON file that looks like this format."""
        path = source.path
        return path.is_file() and path.name.endswith((".json", ".json.gz")) and self.matches(source.json)

    def load(self, source: Source) -> Corpus:
        """Parse the file; see `parse`."""
        if not source.path.is_file():
            raise CorpusError(
                f"not a file, and format '{source.settings.format}' is one JSON file",
                where=source.location,
                remedy="name that file",
            )
        return self.parse(source.json, self.name(source), str(source.path))


def loader_of(name: str) -> CorpusLoader:
    """The loader of a format.

    Raises:
        ZragError: there is no such format.
    """
    loader: CorpusLoader = pkgutil.resolve_name(FORMATS[name].loader)()
    return loader
