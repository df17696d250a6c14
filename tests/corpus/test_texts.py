import pytest

from zrag_core.corpus.cleaning import NOT_FETCHED
from zrag_core.corpus.conversion.kinds import CONVERTERS
from zrag_core.corpus.loaders.base import Source
from zrag_core.corpus.loaders.texts import TextsLoader
from zrag_core.corpus.read import read_corpus, read_documents
from zrag_core.errors import CorpusError, ProblemList
from zrag_core.settings import CorpusSettings
from zrag_core.text import evidence_tokens

GUIDE = """\
Before any heading.

# Orchard guide

Pick early. Store cold.

## Pruning

### Winter

Cut in February.

```sh
# not a heading
```

## Leftover

# Sales

Sell late.
"""


def read_texts(folder, passage_tokens):
    settings = CorpusSettings(format="texts", location=str(folder), passage_tokens=passage_tokens)
    return TextsLoader().load(Source(settings))


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_markdown_is_divided_at_headings(tmp_path):
    write(tmp_path, {"docs/guide.md": GUIDE})
    corpus = read_texts(tmp_path, 384)
    assert [(d.id, d.title) for d in corpus.documents] == [
        ("docs/guide.md#0", "guide"),
        ("docs/guide.md#1", "Orchard guide"),
        ("docs/guide.md#2", "Orchard guide / Pruning / Winter"),
        ("docs/guide.md#3", "Sales"),
    ]
    assert corpus.documents[1].text == "Pick early. Store cold."
    assert "# not a heading" in corpus.documents[2].text
    assert "1 heading left out that nothing stands below" in corpus.notes
    for document in corpus.documents:
        assert document.source_id == "docs/guide.md"
        assert GUIDE[document.source_start :].startswith(document.text)


def test_a_section_without_first_level_heading_is_named_after_its_file(tmp_path):
    write(tmp_path, {"manual.md": "## Use\n\nPress it.\n"})
    assert read_texts(tmp_path, 384).documents[0].title == "manual / Use"


def test_long_plain_text_becomes_passages_that_lose_nothing(tmp_path):
    text = "\ufeff" + " ".join(f"제{n}장은 사과나무 이야기이다." for n in range(60)) + "\x0cNew page."
    write(tmp_path, {"이야기.txt": text})
    corpus = read_texts(tmp_path, 40)
    source = text.removeprefix("\ufeff").replace("\x0c", "\n")
    assert [d.id for d in corpus.documents] == [f"이야기.txt#{n}" for n in range(len(corpus.documents))]
    assert all(evidence_tokens(d.text) <= 40 for d in corpus.documents)
    assert all(source[d.source_start : d.source_start + len(d.text)] == d.text for d in corpus.documents)
    assert "".join("".join(d.text.split()) for d in corpus.documents) == "".join(source.split())


def test_hidden_empty_and_other_files(tmp_path):
    write(tmp_path, {"a.TXT": "Text.", "b.md": " \n", ".git/c.md": "Hidden.", "d.bin": b"%PDF", "sub/e.txt": "More."})
    corpus = read_corpus(CorpusSettings(format="auto", location=str(tmp_path)))
    assert [d.id for d in corpus.documents] == ["a.TXT#0", "sub/e.txt#0"]
    assert "1 files without text left out" in corpus.notes


def test_one_text_file_is_a_corpus_too(tmp_path):
    write(tmp_path, {"a.txt": "Text.", "b.txt": "Other."})
    corpus = read_corpus(CorpusSettings(format="auto", location=str(tmp_path / "a.txt")))
    assert [d.id for d in corpus.documents] == ["a.txt#0"]


def test_what_is_left_out_is_named_with_its_reason(tmp_path):
    write(
        tmp_path,
        {
            "b.md": b"ok \xff\xfe\xff",
            "c.txt": "fine",
            "d.pdf": b"no",
            "e.txt": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "f.xlsx": b"PK",
            "g.xlsx": b"PK",
            "Makefile": "all:",
        },
    )
    corpus = read_texts(tmp_path, 384)
    assert [d.id for d in corpus.documents] == ["c.txt#0"]
    notes = [note for note in corpus.notes if note.startswith("left out: ")]
    assert [note.removeprefix("left out: ").split(":")[0] for note in notes[:3]] == ["b.md", "d.pdf", "e.txt"]
    assert "UTF-8" in notes[0]
    assert "not a PDF" in notes[1]
    assert "Git LFS" in notes[2]
    assert notes[3:] == [
        "left out: 1 file of a kind that is not read (no suffix)",
        "left out: 2 files of a kind that is not read (.xlsx)",
    ]


@pytest.mark.parametrize("suffix", CONVERTERS)
def test_a_git_lfs_pointer_is_told_whatever_it_stands_for(tmp_path, suffix):
    write(tmp_path, {"a.txt": "fine", f"b{suffix}": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"})
    corpus = read_texts(tmp_path, 384)
    assert corpus.notes[0] == "1 files (1 .txt) read as 1 passages"
    assert f"left out: b{suffix}: {NOT_FETCHED}" in corpus.notes


def test_links_are_followed_once_and_those_to_nothing_are_told(tmp_path):
    write(tmp_path, {"own/real/a.md": "Apples.", "own/note.txt": "Pears.", "far/b.md": "Plums."})
    for link, target in {
        "alias": "real",
        "all": ".",
        "far": "../far",
        "far-b.md": "far/b.md",
        "gone.md": "nowhere",
    }.items():
        (tmp_path / "own" / link).symlink_to(target)
    corpus = read_texts(tmp_path / "own", 384)
    assert [d.id for d in corpus.documents] == ["far/b.md#0", "note.txt#0", "real/a.md#0"]
    assert [note for note in corpus.notes if "left out" in note] == ["left out: gone.md: a link to nothing"]
    (added,) = read_documents(tmp_path / "own" / "far" / "b.md", tmp_path / "own")
    assert added.id == "far/b.md#0"


@pytest.mark.parametrize(
    ("encoding", "told"), [("utf-16-le", "UTF-16 without its mark"), ("utf-16-be", "UTF-16"), ("latin-1", "not UTF-8")]
)
def test_an_encoding_that_no_mark_names_is_told(tmp_path, encoding, told):
    write(tmp_path, {"a.txt": "fine", "b.txt": "A café by the sea".encode(encoding)})
    assert any(note.startswith("left out: b.txt: ") and told in note for note in read_texts(tmp_path, 384).notes)


def test_older_korean_files_and_utf16_are_read(tmp_path):
    write(tmp_path, {"a.txt": "사과는 붉다.".encode("cp949"), "b.txt": "배는 달다.".encode("utf-16")})
    write(tmp_path, {"c.txt": "귤은 시다.".encode("utf-32")})
    corpus = read_texts(tmp_path, 384)
    assert [d.text for d in corpus.documents] == ["사과는 붉다.", "배는 달다.", "귤은 시다."]
    assert "a.txt: read as CP949" in corpus.notes


def test_where_no_file_can_be_read_all_reasons_are_given(tmp_path):
    write(tmp_path, {"a.md": b"ok \xff\xfe\xff", "b.docx": b"no"})
    with pytest.raises(ProblemList) as raised:
        read_texts(tmp_path, 384)
    assert [line.split(":")[0] for line in raised.value.problems] == ["a.md", "b.docx"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is empty"),
        ({"x.bin": b"%PDF"}, "holds no corpus of a known format"),
        ({"x.txt": "\n"}, "holds 1 empty text files"),
    ],
)
def test_a_folder_without_text_is_a_clear_error(tmp_path, files, message):
    write(tmp_path, files)
    with pytest.raises(CorpusError, match=message) as raised:
        read_corpus(CorpusSettings(format="auto", location=str(tmp_path)))
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)
