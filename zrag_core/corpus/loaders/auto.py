"""The format `auto`: recognises what the location holds."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from zrag_core.corpus.loaders.base import CorpusLoader, Source, loader_of
from zrag_core.corpus.types import Corpus
from zrag_core.corpus_formats import FORMATS
from zrag_core.errors import CorpusError


class AutoLoader(CorpusLoader):
    """Reads a corpus by the first format that takes the source for one of its own."""

    def __init__(self) -> None:
        others = {name: form for name, form in FORMATS.items() if form.summary and name != "auto"}
        self._loaders = [loader_of(name) for name in others]
        self.suffixes = tuple(chain.from_iterable(loader.suffixes for loader in self._loaders))
        *summaries, last = (form.summary for form in others.values())
        self._remedy = f"corpus.location takes {', '.join(summaries)}, or {last}"

    def load(self, source: Source) -> Corpus:
        """Recognise the format and read it."""
        for loader in self._loaders:
            if loader.detects(source):
                return loader.load(source)
        path, what = source.path, "not a kind of file that is known"
        if not path.exists():
            what = "no such file or folder"
        elif path.is_dir():
            what = f"the folder {'holds no corpus of a known format' if any(path.iterdir()) else 'is empty'}"
        raise CorpusError(what, where=source.location, remedy=self._remedy)

    def files(self, source: Source) -> list[Path]:
        """The files of the first format that finds any."""
        return next((files for loader in self._loaders if (files := loader.files(source))), [])

    def remote(self, source: Source) -> bool:
        """Whether a format without files takes the source for one of its own."""
        return any(loader.remote(source) and loader.detects(source) for loader in self._loaders)
