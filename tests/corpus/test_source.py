"""The fingerprint of a corpus' source: new for new content, an error for a source that is not there."""

import json
import os
import shutil

import pytest

from zrag_core.corpus import file_digests
from zrag_core.corpus.loaders.huggingface import names_dataset
from zrag_core.corpus.source import corpus_key, source_fingerprint
from zrag_core.errors import CorpusError
from zrag_core.settings import AlmanacSettings, CorpusSettings


def fingerprint(location, form="auto", **more):
    return source_fingerprint(CorpusSettings(format=form, location=str(location), **more))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "말뭉치"
    folder.mkdir()
    write(folder, "corpus.jsonl", "Tessamor lies in the north.")
    return folder


def write(folder, name, text):
    (folder / name).write_text(json.dumps({"id": "d1", "title": "Tessamor", "text": text}) + "\n", "utf-8")


FORMATS = ("auto", "native", "texts", "squad", "hotpotqa")


@pytest.mark.parametrize(
    ("form", "state"),
    [
        *((form, state) for form in FORMATS for state in ("vanished", "empty", "other")),
        *(("huggingface", state) for state in ("vanished", "empty")),  # its files may have any name
    ],
)
def test_a_folder_that_lost_its_corpus_is_an_error(folder, form, state):
    """As when a share is not mounted: the sensor must not take that for a new corpus."""
    fingerprint(folder)
    shutil.rmtree(folder)
    if state != "vanished":
        folder.mkdir()
    if state == "other":
        write(folder, "questions.jsonl", "left behind")
    with pytest.raises(CorpusError) as caught:
        fingerprint(folder, form)
    assert str(folder) in str(caught.value)
    assert str(caught.value).endswith("-> check corpus.location")
    assert ("no such file or folder" in str(caught.value)) is (state == "vanished")


@pytest.mark.parametrize("location", ["./gone", "~/gone-zrag", "../a/b", "a/b/c", "gone.json", "gone.jsonl.gz", "a b"])
def test_a_path_to_nowhere_is_an_error(location, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for form in ("auto", "huggingface", "native"):
        with pytest.raises(CorpusError, match="no such file or folder"):
            fingerprint(location, form)
    assert not names_dataset(location)


@pytest.mark.parametrize("name", ["squad", "KorQuAD/squad_kor_v1", "org/set-1.1"])
def test_a_dataset_is_known_by_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names_dataset(name)
    assert fingerprint(name) == fingerprint(name) != fingerprint(name + "2")
    with pytest.raises(CorpusError):
        fingerprint(name, "native")


def test_content_and_settings_count_and_times_do_not(folder):
    first = fingerprint(folder)
    write(folder, "corpus.jsonl", "Tessamor lies in the north.")
    assert fingerprint(folder) == first
    assert fingerprint(folder, seed=1) != first
    write(folder, "questions.jsonl", "Where?")
    with_questions = fingerprint(folder)
    assert with_questions != first
    write(folder, "corpus.jsonl", "Tessamor lies in the south.")
    assert fingerprint(folder) not in (first, with_questions)
    (folder / "questions.jsonl").unlink()
    write(folder, "corpus.jsonl", "Tessamor lies in the north.")
    assert fingerprint(folder) == first


def test_a_file_that_cannot_be_read_is_an_error(folder, monkeypatch):
    def refused(self, *_arguments, **_options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.open", refused)
    with pytest.raises(CorpusError, match=r"corpus\.jsonl: cannot be read \(Permission denied\)"):
        fingerprint(folder)


def test_keys_tell_corpora_of_one_name_apart(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name / "docs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    here, same, other = (
        corpus_key(CorpusSettings(format="texts", location=location))
        for location in ("docs", str(tmp_path / "a" / "docs") + "/", str(tmp_path / "b" / "docs"))
    )
    assert here == same != other
    assert here.startswith("docs-")
    hub = {corpus_key(CorpusSettings(format="huggingface", location=name)) for name in ("squad", "rajpurkar/squad")}
    assert len(hub) == 2
    almanacs = [
        AlmanacSettings(),
        AlmanacSettings(documents=200),
        AlmanacSettings(seed=1),
        AlmanacSettings(language="ko"),
    ]
    assert len({corpus_key(CorpusSettings(almanac=almanac)) for almanac in almanacs}) == 4


def test_a_chosen_name_is_the_key_wherever_the_corpus_lies():
    keys = {corpus_key(CorpusSettings(format="texts", location=place, name="law")) for place in ("/a/docs", "/b/docs")}
    assert keys == {"law"}


@pytest.fixture
def settled(folder, monkeypatch):
    """The folder, of three files that were written long ago, and the files that are read from now on."""
    for name in ("a.md", "b.md", "c.md"):
        (folder / name).write_text(f"# {name}", "utf-8")
    (folder / "corpus.jsonl").unlink()
    monkeypatch.setattr(file_digests, "_SETTLED_S", -1e9)
    file_digests._remembered.cache_clear()
    read, original = [], file_digests._read
    monkeypatch.setattr(file_digests, "_read", lambda path: read.append(path.name) or original(path))
    return folder, read


def test_only_what_has_changed_is_read_again(settled):
    folder, read = settled
    first = fingerprint(folder)
    assert read == ["a.md", "b.md", "c.md"]
    assert fingerprint(folder) == first
    assert len(read) == 3, "nothing changed, so nothing is read"
    before = (folder / "b.md").stat()
    (folder / "b.md").write_text("# B.md", "utf-8")  # as long as before
    os.utime(folder / "b.md", ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy with its times
    assert fingerprint(folder) != first
    assert read[3:] == ["b.md"]
    (folder / "b.md").write_text("# b.md", "utf-8")
    assert fingerprint(folder) == first, "a corpus that returns to an earlier state has its earlier fingerprint"
    (folder / "c.md").rename(folder / "d.md")
    assert fingerprint(folder) != first


def test_a_file_that_was_written_just_now_is_read_again(settled, monkeypatch):
    folder, read = settled
    monkeypatch.setattr(file_digests, "_SETTLED_S", 60.0)
    fingerprint(folder)
    fingerprint(folder)
    assert len(read) == 6, "within one tick of the clock it may have changed and look the same"
