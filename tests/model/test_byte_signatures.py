"""What removed documents leave behind: everything planted is found, and what others say is none of it."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from updating_fixtures import document, make_theta, save, update, write

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.row_table import NUMBERS, RowTable
from zrag_core.model.architecture.word_lists import WORD
from zrag_core.model.checks.byte_signatures import find_signatures, removed_signatures, text_patterns

KOREAN = Document("k", "서린도 등대", '서린도 등대는 남쪽 바다의 작은 섬에 서 있다. 등대지기는 "한 사람"뿐이다.')


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A memory of five documents, and that of three of them and a new one; both are saved."""
    folder = tmp_path_factory.mktemp("memories")
    corpus = [*(document(n, n) for n in range(4)), KOREAN]
    former = replace(write(make_theta(), corpus), folder=folder / "former")
    save(former, former.folder)
    now = replace(update(former, [document(9, 9), *corpus[1:4]])[0], folder=folder / "now")
    save(now, now.folder)
    return former, now


@pytest.fixture
def planted(checkpoints, tmp_path):
    """The new memory's folder, to leave something in."""
    return shutil.copytree(checkpoints[1].folder, tmp_path / "planted")


def found(checkpoints, folder):
    former, now = checkpoints
    return Counter(
        (item.signature.document_id, item.signature.kind, item.file)
        for item in find_signatures(removed_signatures(former, now.documents), folder)
    )


def test_nothing_is_left_after_an_update_and_everything_before_it(checkpoints):
    former, now = checkpoints
    assert not found(checkpoints, now.folder)
    everything = found(checkpoints, former.folder)
    removed = document(0, 0)
    for identifier in (removed.id, "k"):
        for kind, file in (("text", "documents.jsonl"), ("title", "documents.jsonl"), ("slots", "memory.safetensors")):
            if (identifier, kind) != (removed.id, "title"):  # of six bytes: numbers would hold it by chance
                assert everything[identifier, kind, file], (identifier, kind)
        assert everything[identifier, "words", "memory.safetensors"] == 2
        assert everything[identifier, "hash", "memory.safetensors"] == 1
    assert {key[0] for key in everything} == {removed.id, "k"}


@pytest.mark.parametrize("write_as", [str, json.dumps, lambda s: json.dumps(s, ensure_ascii=False)])
def test_one_sentence_is_found_in_any_form_and_file(checkpoints, planted, write_as):
    sentence = '등대지기는 "한 사람"뿐이다.'
    (planted / "tokenizer" / "note.bin").write_bytes(b"\x00\xff" + write_as(sentence).encode() + b"\x00")
    assert found(checkpoints, planted) == {("k", "text", "tokenizer/note.bin"): 1}


def test_a_title_is_found_but_not_in_the_vocabulary(checkpoints, planted):
    (planted / "tokenizer" / "note.txt").write_text(KOREAN.title, encoding="utf-8")
    assert not found(checkpoints, planted)
    (planted / "note.txt").write_text(KOREAN.title, encoding="utf-8")
    assert found(checkpoints, planted) == {("k", "title", "note.txt"): 1}


@pytest.mark.parametrize(
    ("name", "kind", "n"),
    [("slots", "slots", 2), ("title_words", "words", 1), ("text_words", "words", 1), ("content_hash", "hash", 1)],
)
def test_a_row_that_stayed_is_found(checkpoints, planted, name, kind, n):
    former, _ = checkpoints
    row = [d.id for d in former.documents].index("k")
    memory = load_file(planted / "memory.safetensors")
    stored = load_file(former.folder / "memory.safetensors")
    if name in stored:
        stayed = stored[name][row]
    else:
        columns = RowTable.restored(name, stored).select([row]).columns
        stayed = columns[NUMBERS if NUMBERS in columns else WORD]
    memory["more"] = torch.cat([torch.zeros(3, dtype=stayed.dtype), stayed.flatten()])
    save_file(memory, planted / "memory.safetensors")
    assert found(checkpoints, planted) == {("k", kind, "memory.safetensors"): n}


def test_what_a_remaining_document_says_has_no_signature(checkpoints):
    former, _ = checkpoints
    renamed = replace(KOREAN, id="other")
    kinds = {item.kind for item in removed_signatures(former, [*former.documents[:4], renamed])}
    assert kinds == {"hash"}, "the same text under another id"
    partly = replace(KOREAN, text="서린도 등대는 남쪽 바다의 작은 섬에 서 있다. 등대지기는 이제 없다.")
    signatures = removed_signatures(former, [*former.documents[:4], partly])
    assert Counter(item.kind for item in signatures) == {"text": 2, "slots": 1, "words": 1, "hash": 1}
    said = [item.patterns for item in signatures if item.kind == "text"]
    assert said == [text_patterns(KOREAN.text), text_patterns('등대지기는 "한 사람"뿐이다.')]
    assert not removed_signatures(former, former.documents)
