import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.corpus.audit import audit_targets
from zrag_core.corpus.overlay import (
    NONE,
    Overlay,
    apply_overlay,
    find_documents,
    load_overlay,
    overlay_fingerprint,
    save_overlay,
)
from zrag_core.corpus.passages import split_long_documents
from zrag_core.corpus.read import read_corpus, read_documents, with_facts_apart
from zrag_core.corpus.source import corpus_name
from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.errors import CorpusError, ProblemList
from zrag_core.settings import TargetSettings, load_settings
from zrag_pipeline.platform import paths


def document(name, text="한 마을이 강가에 있다.", source=""):
    return Document(name, f"Title of {name}", text, source_id=source or name)


ORRIN = document("d1", "Orrin Vale was born in 1931. He painted harbours.")
TARN = document("d2", "Tarn Bridge spans the Ostel.")
MOUNT = document("d3", "하늘마을은 북쪽 산에 있다.")
BORN = Question("q1", "When was Orrin Vale born?", ("1931",), ("d1",), "Orrin Vale was born in 1931.")
PAINTED = Question("q2", "What did he paint?", ("harbours",), ("d1",))
BOTH = Question("q3", "Which bridge did the painter know?", ("Tarn Bridge",), ("d1", "d2"))
SPANS = Question("q4", "What does it span?", ("the Ostel",), ("d2",))
NOBODY = Question("q5", "Who taught him?", (), (), metadata={"about_document": "d2"})
CORPUS = Corpus("towns", (ORRIN, TARN, MOUNT), (BORN, PAINTED, BOTH, SPANS, NOBODY), ("a note",))


def removed(overlay, name, corpus=CORPUS):
    return overlay.with_removed({name: find_documents(corpus.documents, name)})


# --- behaviour ------------------------------------------------------------------------------------


def test_without_changes_the_corpus_is_the_same_object():
    assert apply_overlay(CORPUS, Overlay()) is CORPUS


def test_a_removed_document_takes_its_questions_along():
    changed = apply_overlay(CORPUS, removed(Overlay(), "d2"))
    assert changed.documents == (ORRIN, MOUNT)
    assert changed.questions == (BORN, PAINTED)
    assert changed.notes[0] == "a note"
    assert changed.notes[1].endswith("0 documents added, 0 documents changed, 1 documents removed")
    assert changed.notes[2].startswith("3 questions")


def test_a_self_study_question_goes_with_its_sentence():
    study = Question("s", "Vale born", ("1931",), ("d1",), BORN.evidence, "test", metadata={"self_study": True})
    made = Corpus("towns", (ORRIN, TARN), (study,))
    longer = Overlay().with_added([document("d1", f"{ORRIN.text} He liked tea.")])
    assert apply_overlay(made, longer).questions == (study,)
    joined = Overlay().with_added([document("d1", "It is known that Orrin Vale was born in 1931.")])
    assert apply_overlay(made, joined).questions == ()


def test_facts_that_a_change_joins_are_trained_on_and_others_stay():
    asked = (replace(BORN, split="test"), replace(PAINTED, split="train"), replace(SPANS, split="dev"))
    before = Corpus("towns", (ORRIN, TARN), asked)
    joined = Overlay().with_added([document("d1", "Orrin Vale, born in 1931, painted harbours.")])
    apart = with_facts_apart(apply_overlay(before, joined), before)
    assert {q.id: q.split for q in apart.questions} == {"q1": "train", "q2": "train", "q4": "dev"}
    assert "1 questions moved to train" in apart.notes[-1]
    assert audit_targets(apart, build_targets(apart, TargetSettings(), 0)).leaks == 0
    kept = apply_overlay(before, Overlay().with_added([document("d9")]))
    assert with_facts_apart(kept, before) is kept


def test_new_documents_come_last_and_changed_ones_keep_their_place():
    later = document("d1", "Orrin Vale was born in 1931, in Kell.")
    changed = apply_overlay(CORPUS, Overlay().with_added([document("d9"), later]))
    assert changed.documents == (later, TARN, MOUNT, document("d9"))
    assert "1 documents added, 1 documents changed, 0 documents removed" in changed.notes[1]


def test_questions_about_a_changed_document_stay_where_it_still_answers_them():
    changed = apply_overlay(CORPUS, Overlay().with_added([document("d1", "Orrin Vale was born in 1931, in Kell.")]))
    (born, *others) = changed.questions
    assert born == Question("q1", BORN.question, ("1931",), ("d1",), None), "its evidence is no longer the text's"
    assert "q2" not in {question.id for question in others}
    same = apply_overlay(CORPUS, Overlay().with_added([ORRIN]))
    assert same.questions == CORPUS.questions


def test_a_removed_id_stays_removed_when_the_source_changes_it():
    overlay = removed(Overlay(), "d1")
    source = Corpus("towns", (document("d1", "Another text altogether."), TARN), ())
    assert apply_overlay(source, overlay).documents == (TARN,)


def test_adding_what_was_removed_lifts_the_tombstone():
    overlay = removed(Overlay(), "d1").with_added([ORRIN])
    assert overlay == Overlay((ORRIN,), {})
    assert apply_overlay(CORPUS, overlay).documents == CORPUS.documents


def test_removing_what_was_added_leaves_a_tombstone_without_text(tmp_path):
    overlay = Overlay().with_added([document("d9", "A secret that must go.")])
    overlay = overlay.with_removed({"d9": overlay.added})
    assert overlay.added == ()
    save_overlay(tmp_path / "o", overlay)
    assert json.loads((tmp_path / "o" / "removed.json").read_text("utf-8"))["removed"] == {
        "d9": [document("d9", "A secret that must go.").content_hash]
    }
    assert (tmp_path / "o" / "added.jsonl").read_bytes() == b""
    again = overlay.with_removed({"d9": ()})
    assert again == overlay, "the hash of what was removed is kept"


def test_passages_are_removed_by_their_source_and_replaced_by_it():
    long = Corpus("c", (document("book", "One sentence is here. " * 40), TARN), ())
    cut = split_long_documents(long, 60)
    assert len(cut.documents) > 3
    assert find_documents(cut.documents, "book") == cut.documents[:-1]
    assert apply_overlay(cut, removed(Overlay(), "book", cut)).documents == (TARN,)
    assert apply_overlay(cut, removed(Overlay(), "book#1", cut)).documents == (cut.documents[0], *cut.documents[2:])
    short = document("book", "Now it is short.")
    assert apply_overlay(cut, Overlay().with_added([short])).documents == (short, TARN)
    with pytest.raises(CorpusError, match="more than once"):
        Overlay().with_added([short, short])


def test_a_passage_that_is_added_back_by_itself_stays_asked_about():
    cut = Corpus("c", (document("b#0", "One.", "b"), document("b#1", "Two is here.", "b")), ())
    asked = Corpus("c", cut.documents, (Question("q", "Where is two?", ("here",), ("b#1",)),))
    overlay = removed(Overlay(), "b", cut).with_added([document("b#1", "Two is here.")])
    changed = apply_overlay(asked, overlay)
    assert [d.id for d in changed.documents] == ["b#1"]
    assert [q.id for q in changed.questions] == ["q"]


def test_a_corpus_without_documents_is_refused():
    with pytest.raises(CorpusError, match="every document was removed"):
        apply_overlay(Corpus("c", (TARN,), ()), removed(Overlay(), "d2"))


# --- files ----------------------------------------------------------------------------------------


def test_the_fingerprint_says_what_the_overlay_says(tmp_path):
    folder = tmp_path / "변경"
    assert overlay_fingerprint(folder) == NONE
    save_overlay(folder, Overlay())
    assert overlay_fingerprint(folder) == NONE
    save_overlay(folder, Overlay().with_added([ORRIN]))
    one = overlay_fingerprint(folder)
    save_overlay(folder, Overlay().with_added([ORRIN, TARN]))
    two = overlay_fingerprint(folder)
    save_overlay(folder, Overlay().with_added([ORRIN]))
    assert overlay_fingerprint(folder) == one != two
    save_overlay(folder, Overlay((ORRIN,), {"d2": ()}))
    assert overlay_fingerprint(folder) not in (one, two, NONE)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("added.jsonl", '{"id": "d1"'),
        ("added.jsonl", '{"name": "d1"}\n'),
        ("removed.json", "[]"),
        ("removed.json", '{"format_version": 9, "removed": {}}'),
    ],
)
def test_a_damaged_overlay_is_one_line_with_its_file(tmp_path, name, text):
    save_overlay(tmp_path / "o", Overlay())
    (tmp_path / "o" / name).write_text(text, "utf-8")
    with pytest.raises(CorpusError, match=name) as found:
        load_overlay(tmp_path / "o")
    assert "\n" not in str(found.value)


def test_folders_of_odd_names_stay_apart(monkeypatch, tmp_path):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path))
    names = ["a", "a/b", "a%2Fb", "..", ".", ".a", "한국 말뭉치"]
    folders = {paths.overlay_dir(name) for name in names}
    assert len(folders) == len(names)
    assert {folder.parent for folder in folders} == {tmp_path / "corpus_changes"}


# --- reading what is added ------------------------------------------------------------------------


def test_every_kind_of_file_can_be_added(tmp_path):
    rows = tmp_path / "more.jsonl"
    rows.write_text('{"id": "d7", "title": "산", "text": "산이 높다."}\n', "utf-8")
    assert read_documents(rows) == (Document("d7", "산", "산이 높다.", source_id="d7"),)
    note = tmp_path / "note.md"
    note.write_text("# Kell\nKell lies in the north.\n", "utf-8")
    assert [(d.id, d.title) for d in read_documents(note)] == [("note.md#0", "Kell")]
    folder = tmp_path / "native"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"id": "d8", "text": "' + "A long text. " * 300 + '"}\n', "utf-8")
    (folder / "questions.jsonl").write_text('{"id": "q", "question": "Why?", "golden_answers": []}\n', "utf-8")
    passages = read_documents(folder)
    assert len(passages) > 1
    assert {d.source_id for d in passages} == {"d8"}


def test_what_cannot_be_added_is_said(tmp_path):
    with pytest.raises(CorpusError, match="no such file"):
        read_documents(tmp_path / "squad")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n{"id": "b"}\n', "utf-8")
    with pytest.raises(ProblemList, match="2 bad rows"):
        read_documents(bad)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("", "utf-8")
    with pytest.raises(CorpusError, match="no documents"):
        read_documents(empty)


@pytest.mark.parametrize("kind", ["almanac", "named", "native", "squad", "text"])
def test_a_corpus_name_is_known_before_it_is_read(tmp_path, kind):
    native = tmp_path / "마을 말뭉치"
    native.mkdir()
    (native / "corpus.jsonl").write_text('{"id": "d8", "text": "A text."}\n', "utf-8")
    squad = tmp_path / "dev-v1.json"
    qa = {"id": "q", "question": "Which?", "answers": [{"text": "text", "answer_start": 2}]}
    article = {"title": "T", "paragraphs": [{"context": "A text.", "qas": [qa]}]}
    squad.write_text(json.dumps({"version": "1.1", "data": [article]}), "utf-8")
    (tmp_path / "note.md").write_text("# Kell\nKell lies in the north.\n", "utf-8")
    fields = {
        "almanac": {"format": "almanac", "almanac": {"documents": 3, "language": "ko", "seed": 4}},
        "named": {"format": "almanac", "name": "mine", "almanac": {"documents": 3}},
        "native": {"format": "auto", "location": str(native)},
        "squad": {"format": "auto", "location": str(squad)},
        "text": {"format": "auto", "location": str(tmp_path / "note.md")},
    }[kind]
    settings = load_settings({"corpus": fields}).corpus
    assert corpus_name(settings) == read_corpus(settings).name


# --- any sequence of commands ---------------------------------------------------------------------

NAMES = st.sampled_from("abcdef")
COMMANDS = st.lists(st.tuples(st.sampled_from(["add", "remove"]), NAMES, st.sampled_from("xyz")), max_size=12)
SOURCES = st.dictionaries(NAMES, st.sampled_from("xyz"), max_size=6)


@given(SOURCES, SOURCES, COMMANDS)
def test_the_last_command_decides_and_the_source_decides_the_rest(tmp_path_factory, source, later, commands):
    overlay, expected = Overlay(), {}
    for what, name, text in commands:
        if what == "add":
            overlay = overlay.with_added([document(name, text)])
            expected[name] = text
        else:
            overlay = overlay.with_removed({name: ()})
            expected[name] = None
    folder = tmp_path_factory.mktemp("overlays") / "o"
    save_overlay(folder, overlay)
    assert load_overlay(folder) == overlay
    for state in (source, later):
        wanted = {name: text for name, text in {**state, **expected}.items() if text is not None}
        questions = tuple(Question(f"q{n}", "What?", (state[n],), (n,)) for n in state)
        corpus = Corpus("c", tuple(document(name, text) for name, text in state.items()), questions)
        if not wanted:
            if overlay.empty:
                assert apply_overlay(corpus, overlay) is corpus
            else:
                with pytest.raises(CorpusError):
                    apply_overlay(corpus, overlay)
            continue
        changed = apply_overlay(corpus, overlay)
        assert {d.id: d.text for d in changed.documents} == wanted
        assert {q.id for q in changed.questions} == {f"q{n}" for n in state if wanted.get(n) == state[n]}
        again = apply_overlay(changed, overlay)
        assert (again.documents, again.questions) == (changed.documents, changed.questions)
