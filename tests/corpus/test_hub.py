import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zrag_core.corpus.read import read_corpus
from zrag_core.errors import CorpusError, ProblemList
from zrag_core.settings import CorpusSettings

CONTEXT = "The mill at Sorn grinds rye. It was built in 1877."
ROWS = [
    {
        "id": "a",
        "title": "Sorn mill",
        "context": CONTEXT,
        "question": "When was it built?",
        "answers": {"text": ["1877"], "answer_start": [CONTEXT.index("1877")]},
    },
    {
        "id": "b",
        "title": "Sorn mill",
        "context": CONTEXT,
        "question": "호밀은 누가 심는가?",
        "answers": {"text": [], "answer_start": []},
    },
]


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("hf")))


def read(location, **columns):
    settings = {"format": "huggingface", "location": str(location), "huggingface": {"split": "train", **columns}}
    return read_corpus(CorpusSettings.model_validate(settings))


def parquet(folder, rows):
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    return folder


def jsonl(folder, rows):
    (folder / "train.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return folder


@pytest.mark.parametrize("write", [parquet, jsonl])
def test_squad_like_columns(tmp_path, write):
    corpus = read(write(tmp_path, ROWS))
    (document,) = corpus.documents
    assert (document.title, document.text) == ("Sorn mill", CONTEXT)
    assert document.id.startswith("Sorn_mill-")
    built, rye = corpus.questions
    assert (built.id, built.golden_answers, built.document_ids) == ("a", ("1877",), (document.id,))
    assert built.evidence == "It was built in 1877."
    assert (rye.split, rye.language) == ("unanswerable", "ko")


def test_other_columns_are_mapped_and_row_numbers_stand_in_for_ids(tmp_path):
    rows = [{"id": "same", "body": f"Passage {n}.", "ask": f"Question {n}?", "answer": f"{n}"} for n in range(2)]
    corpus = read(parquet(tmp_path, rows), text="body", question="ask", answers="answer")
    assert [d.text for d in corpus.documents] == ["Passage 0.", "Passage 1."]
    assert [(q.id, q.golden_answers) for q in corpus.questions] == [("row-000000", ("0",)), ("row-000001", ("1",))]
    assert "no column 'title' for the title" in corpus.notes


def test_document_ids_do_not_depend_on_other_rows(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    more = [{**ROWS[0], "id": "z", "context": "Another text."}, *ROWS]
    first, second = read(parquet(tmp_path / "one", ROWS)), read(parquet(tmp_path / "two", more))
    assert first.documents[0].id in {d.id for d in second.documents}


def test_a_column_that_somebody_named_must_be_there(tmp_path):
    with pytest.raises(CorpusError, match=r"no column 'ask'; the dataset has id, title, context, question, answers"):
        read(parquet(tmp_path, ROWS), question="ask")


def test_bad_rows_are_told_together(tmp_path):
    rows = [ROWS[0], {**ROWS[0], "id": "c", "context": " "}, {**ROWS[0], "id": "d", "question": None}]
    with pytest.raises(ProblemList) as raised:
        read(parquet(tmp_path, rows))
    assert [line.rsplit(": ", 2)[1:] for line in raised.value.problems] == [
        ["row 1", "context is empty"],
        ["row 2", "no question"],
    ]


def test_a_dataset_that_cannot_be_reached_is_one_clear_line(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(CorpusError, match=r"Hugging Face dataset 'nobody/nothing-here'.*cannot be loaded") as raised:
        read_corpus(CorpusSettings(format="auto", location="nobody/nothing-here"))
    assert "\n" not in str(raised.value)


def test_a_missing_split_is_one_clear_line(tmp_path):
    with pytest.raises(CorpusError, match="split nosuch") as raised:
        read(parquet(tmp_path, ROWS), split="nosuch")
    assert "\n" not in str(raised.value)
