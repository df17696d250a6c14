import gzip
import json
import unicodedata
from pathlib import Path

import pytest

from zrag_core.corpus.read import read_corpus
from zrag_core.errors import CorpusError, ProblemList, ZragError
from zrag_core.settings import CorpusSettings

DOCUMENTS = [
    {"id": "d1", "title": "Orrin Vale", "text": "Orrin Vale was born in 1931. He painted harbours."},
    {"id": "d2", "contents": "Tarn Bridge\nTarn Bridge spans the Ostel. Orrin Vale painted it in 1960."},
    {"id": 3, "title": "하늘마을", "text": "하늘마을은 북쪽 산에 있다. 이장은 김보람이다."},
]
QUESTIONS = [
    {"id": "q1", "question": "When was Orrin Vale born?", "golden_answers": ["1931"], "doc_ids": ["d1"]},
    {
        "id": "q2",
        "question": "When was the painter of Tarn Bridge born?",
        "golden_answers": ["1931"],
        "doc_ids": ["d1", "d2"],
        "metadata": {"type": "bridge", "supporting_facts": [["d2", "Tarn Bridge", 1], ["d1", "Orrin Vale", 0]]},
    },
    {
        "id": "q3",
        "question": "하늘마을의 이장은 누구인가?",
        "golden_answers": ["김보람"],
        "doc_ids": [3],
        "metadata": {"split": "dev", "question_type": "vague", "fact_id": "mayor"},
    },
    {"id": "q4", "question": "Who taught Orrin Vale?", "golden_answers": []},
]


def write_rows(path: Path, rows) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    data = ("\n".join(lines) + "\n").encode("utf-8")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def read(folder: Path, **settings):
    return read_corpus(CorpusSettings(format="auto", location=str(folder), **settings))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_rows_become_documents_and_questions(tmp_path, suffix):
    write_rows(tmp_path / f"corpus.jsonl{suffix}", DOCUMENTS)
    write_rows(tmp_path / f"questions.jsonl{suffix}", QUESTIONS)
    corpus = read(tmp_path)
    assert [(d.id, d.title) for d in corpus.documents] == [
        ("d1", "Orrin Vale"),
        ("d2", "Tarn Bridge"),
        ("3", "하늘마을"),
    ]
    assert corpus.documents[1].text == "Tarn Bridge spans the Ostel. Orrin Vale painted it in 1960."
    assert [q.id for q in corpus.questions] == ["q1", "q2", "q3", "q4"]
    born, hop, mayor, nobody = corpus.questions
    assert (born.question_type, born.golden_answers, born.language) == ("single", ("1931",), "en")
    assert (hop.question_type, hop.document_ids) == ("two_hop", ("d1", "d2"))
    assert hop.evidence == "Orrin Vale painted it in 1960. Orrin Vale was born in 1931."
    assert hop.metadata["type"] == "bridge"
    assert (mayor.split, mayor.question_type, mayor.fact_id, mayor.language) == ("dev", "vague", "mayor", "ko")
    assert (nobody.split, nobody.document_ids) == ("unanswerable", ())


def test_text_is_normalised_to_nfc_everywhere(tmp_path):
    title, text = unicodedata.normalize("NFD", "하늘마을"), unicodedata.normalize("NFD", "이장은\r\n김보람이다.\x00")
    write_rows(tmp_path / "corpus.jsonl", [{"id": title, "title": title, "text": text}])
    question = {"id": "q", "question": title, "golden_answers": [title], "doc_ids": ["하늘마을"]}
    write_rows(tmp_path / "questions.jsonl", [question])
    corpus = read(tmp_path)
    assert corpus.documents[0].id == corpus.documents[0].title == "하늘마을"
    assert corpus.documents[0].text == "이장은\n김보람이다."
    assert corpus.questions[0].golden_answers == ("하늘마을",)


@pytest.mark.parametrize("name", ["_id", "doc_id", "document_id"])
def test_ids_by_the_names_that_datasets_give_them(tmp_path, name):
    write_rows(tmp_path / "corpus.jsonl", [{name: "a", "text": "Good."}])
    question = {"query_id": "q", "doc_id": "no id of a question", "question": "Good?", "golden_answers": ["good"]}
    write_rows(tmp_path / "questions.jsonl", [question])
    corpus = read(tmp_path)
    assert (corpus.documents[0].id, corpus.questions[0].id) == ("a", "q")


def test_what_all_rows_lack_is_told_once_with_what_they_have(tmp_path):
    write_rows(tmp_path / "corpus.jsonl", [{"headline": "A", "text": "x"}] * 4000)
    with pytest.raises(ProblemList) as raised:
        read(tmp_path)
    (line,) = raised.value.problems
    file = tmp_path / "corpus.jsonl"
    assert line.startswith(f"{file}:1 and 3,999 more, the last {file}:4000: no id (the row has headline, text)")
    assert "4000 bad rows" in str(raised.value)


def test_what_lies_beside_the_corpus_unread_is_told(tmp_path):
    write_rows(tmp_path / "corpus.jsonl", [{"id": "a", "text": "Good."}])
    (tmp_path / "queries.jsonl").write_text("{}")
    (tmp_path / "qrels").mkdir()
    (tmp_path / ".git").mkdir()
    assert "left out: qrels/, queries.jsonl beside corpus.jsonl" in read(tmp_path).notes


@pytest.mark.parametrize("text", [" \u200b \n", "\u3164", "\ufeff"])
def test_text_that_nobody_can_see_is_empty(tmp_path, text):
    write_rows(tmp_path / "corpus.jsonl", [{"id": "a", "text": text}])
    with pytest.raises(ProblemList, match="text is empty"):
        read(tmp_path)


def test_every_bad_row_is_told_with_its_line_and_reason(tmp_path):
    write_rows(
        tmp_path / "corpus.jsonl",
        [
            {"id": "a", "text": "Good."},
            '{"id": "b", "text": ',
            {"id": "c", "title": "no text"},
            {"id": "a", "text": "again"},
            {"text": "nameless"},
            {"id": "e", "text": 7},
            "[1, 2]",
            {"id": "f", "text": " \n\t"},
            "",
            r'{"id": "g", "text": "half a pair \ud83d"}',
            {"id": "h", "title": [], "text": "x"},
            {"id": True, "text": "x"},
        ],
    )
    write_rows(
        tmp_path / "questions.jsonl",
        [
            {"id": "q1", "question": "Fine?", "golden_answers": ["x"], "doc_ids": ["a"]},
            {"id": "q2", "question": "Where?", "golden_answers": ["x"], "doc_ids": ["a", "zz"]},
            {"id": "q3", "question": "About a bad row?", "golden_answers": ["x"], "doc_ids": ["c"]},
            {"id": "q4", "question": "Bare string?", "golden_answers": "x"},
            {"id": "q5", "golden_answers": ["x"]},
            {"id": "q6", "question": "No answers?"},
            {"id": "q7", "question": "Split?", "golden_answers": ["x"], "metadata": {"split": "tets"}},
            {"id": "q1", "question": "Twice?", "golden_answers": ["x"]},
            {"id": "q8", "question": "Empty?", "golden_answers": ["x", " "]},
        ],
    )
    with pytest.raises(ProblemList) as raised:
        read(tmp_path)
    corpus_file, questions_file = tmp_path / "corpus.jsonl", tmp_path / "questions.jsonl"
    assert raised.value.problems == [
        f"{corpus_file}:2: broken JSON (Expecting value, column 20)",
        f"{corpus_file}:3: no text",
        f"{corpus_file}:4: id 'a' is already used at line 1",
        f"{corpus_file}:5: no id (the row has text); give each row its own, as 'id'",
        f"{corpus_file}:6: text must be a string, not a number",
        f"{corpus_file}:7: the row must be a JSON object, not a list",
        f"{corpus_file}:8: text is empty",
        f"{corpus_file}:10: text holds a broken Unicode escape at character 12",
        f"{corpus_file}:11: title must be a string, not a list",
        f"{corpus_file}:12: id must be a string, not true or false",
        f"{questions_file}:2: doc_ids names 'zz', which is not in the corpus",
        f"{questions_file}:4: golden_answers must be a list of strings, not a string",
        f"{questions_file}:5: no question",
        f"{questions_file}:6: no golden_answers (use [] for a question without an answer)",
        f"{questions_file}:7: metadata.split is 'tets', not one of train, dev, test, new_documents, unanswerable",
        f"{questions_file}:8: id 'q1' is already used at line 1",
        f"{questions_file}:9: golden_answers[1] is empty",
    ]
    assert str(raised.value).startswith(f"{tmp_path}: 17 bad rows; nothing was read\n")


def test_at_most_twenty_problems_are_shown_and_the_rest_counted(tmp_path):
    write_rows(tmp_path / "corpus.jsonl", [{"id": f"d{n // 2}", "text": "x"} for n in range(100)])
    with pytest.raises(ProblemList) as raised:
        read(tmp_path)
    assert str(raised.value).count("is already used") == 20
    assert str(raised.value).endswith("... and 30 more")


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_a_git_lfs_pointer_is_no_corpus(tmp_path, name):
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(CorpusError, match="a Git LFS pointer"):
        read(tmp_path)


def test_utf16_rows_are_told_once(tmp_path):
    (tmp_path / "corpus.jsonl").write_bytes('{"id": "a"}\n{"id": "b"}\n'.encode("utf-16"))
    with pytest.raises(CorpusError, match=r"corpus\.jsonl: in UTF-16, .*iconv -f UTF-16 -t UTF-8"):
        read(tmp_path)


def test_lines_end_at_line_feeds_alone(tmp_path):
    write_rows(tmp_path / "corpus.jsonl", [{"id": "a", "text": "one\u2028two\u0085three"}, {"id": "b"}])
    with pytest.raises(ProblemList, match=r"corpus.jsonl:2: no text"):
        read(tmp_path)


def test_bytes_that_are_no_utf8_are_a_bad_row_and_a_byte_order_mark_is_not(tmp_path):
    good = b'{"id": "a", "text": "x"}'
    (tmp_path / "corpus.jsonl").write_bytes(b"\xef\xbb\xbf" + good + b'\n{"id": "b", "text": "\xb0\xa1"}\n')
    with pytest.raises(ProblemList) as raised:
        read(tmp_path)
    assert raised.value.problems == [f"{tmp_path}/corpus.jsonl:2: not UTF-8 (byte 0xb0 at offset 21)"]


def test_a_gzip_file_that_breaks_off_is_one_clear_line(tmp_path):
    write_rows(tmp_path / "corpus.jsonl.gz", DOCUMENTS)
    whole = (tmp_path / "corpus.jsonl.gz").read_bytes()
    (tmp_path / "corpus.jsonl.gz").write_bytes(whole[:-12])
    with pytest.raises(CorpusError, match=r"corpus\.jsonl\.gz: cannot be read") as raised:
        read(tmp_path)
    assert "\n" not in str(raised.value)


def test_plain_and_compressed_beside_each_other_are_refused(tmp_path):
    write_rows(tmp_path / "corpus.jsonl", DOCUMENTS)
    write_rows(tmp_path / "corpus.jsonl.gz", DOCUMENTS)
    with pytest.raises(CorpusError, match="remove one"):
        read(tmp_path)


def test_a_corpus_without_documents_is_an_error(tmp_path):
    (tmp_path / "corpus.jsonl").touch()
    with pytest.raises(ZragError, match="no documents"):
        read(tmp_path)


def test_a_folder_without_questions_gets_self_study_questions_and_says_so(tmp_path):
    write_rows(
        tmp_path / "corpus.jsonl",
        [
            DOCUMENTS[0] | {"text": DOCUMENTS[0]["text"] + f" {extra}"}
            for extra in [
                "The lighthouse keeper admired seven green lanterns. Fishing crews bought painted boards every autumn."
            ]
        ],
    )
    corpus = read(tmp_path)
    assert any("no questions.jsonl" in note for note in corpus.notes)
    assert any("self-study questions" in note for note in corpus.notes)
    assert {q.split for q in corpus.questions} == {"dev", "test"}
