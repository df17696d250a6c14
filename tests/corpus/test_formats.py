"""The registry of corpus formats: a format is one loader and one line of registration."""

import pytest

from zrag_core.corpus.loaders.base import CorpusLoader, Source, loader_of
from zrag_core.corpus.read import read_corpus
from zrag_core.corpus.source import corpus_key, corpus_name, source_fingerprint
from zrag_core.corpus.types import Corpus, Document
from zrag_core.corpus_formats import FORMATS, register_format
from zrag_core.errors import CorpusError, SettingsError
from zrag_core.settings import CorpusSettings, load_settings


@pytest.mark.parametrize("name", FORMATS)
def test_every_registered_loader_is_there(name):
    loader = loader_of(name)
    assert isinstance(loader, CorpusLoader)
    assert corpus_name(CorpusSettings(format=name, location="docs"))


def test_every_format_but_the_generator_needs_a_location():
    without = [name for name in FORMATS if "needs a location" not in problem_of({"format": name})]
    assert without == ["almanac"]


def problem_of(corpus):
    try:
        load_settings({"corpus": corpus})
    except SettingsError as error:
        return str(error)
    return ""


def test_an_unknown_format_is_named_with_the_nearest_one():
    assert problem_of({"format": "sqad", "location": "x"}) == (
        "corpus.format: unknown corpus format 'sqad' -> did you mean 'squad'? (given: 'sqad')"
    )


def test_the_schema_lists_the_formats():
    assert CorpusSettings.model_json_schema()["properties"]["format"]["enum"] == list(FORMATS)


class LinesLoader(CorpusLoader):
    """One document a line."""

    suffixes = (".lines",)

    def detects(self, source: Source) -> bool:
        return source.path.suffix == ".lines"

    def load(self, source: Source) -> Corpus:
        rows = source.path.read_text("utf-8").splitlines()
        return Corpus(self.name(source), tuple(Document(f"l{n}", "", row) for n, row in enumerate(rows)), ())


def test_a_new_format_is_one_class_and_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(FORMATS, "_entries", dict(FORMATS._entries))  # what is added goes again
    path = tmp_path / "towns.lines"
    path.write_text("Sorn lies by the sea.\nKell lies in the hills.\n", "utf-8")
    with pytest.raises(CorpusError, match="not a kind of file"):
        read_corpus(CorpusSettings(format="auto", location=str(path)))
    register_format("lines", "a .lines file", f"{__name__}:LinesLoader")
    for chosen in ("lines", "auto"):
        settings = CorpusSettings(format=chosen, location=str(path))
        corpus = read_corpus(settings)
        assert (corpus.name, len(corpus.documents)) == ("towns", 2)
        assert corpus_name(settings) == "towns"
        assert corpus_key(settings).startswith("towns-")
        before = source_fingerprint(settings)
        path.write_text(path.read_text("utf-8").strip() + " " * len(chosen), "utf-8")
        assert source_fingerprint(settings) != before
