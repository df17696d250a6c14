"""The built-in corpus as a format: generated from its settings, without a location."""

from __future__ import annotations

from zrag_core.corpus.almanac import corpus_name, generate_almanac
from zrag_core.corpus.loaders.base import CorpusLoader, Source
from zrag_core.corpus.types import Corpus


class AlmanacLoader(CorpusLoader):
    """Generates the almanac that `corpus.almanac` describes."""

    def load(self, source: Source) -> Corpus:
        """Generate documents and questions."""
        almanac = source.settings.almanac
        return generate_almanac(n_documents=almanac.documents, language=almanac.language, seed=almanac.seed)

    def remote(self, source: Source) -> bool:
        """Always: the settings say what is generated."""
        return True

    def name(self, source: Source) -> str:
        """Language and seed."""
        return corpus_name(source.settings.almanac.language, source.settings.almanac.seed, "evaluation")

    def key(self, source: Source) -> str:
        """Language, seed and number of documents."""
        return f"{self.name(source)}-{source.settings.almanac.documents}"
