import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zrag_core.corpus.audit import audit_targets
from zrag_core.corpus.read import read_corpus
from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.errors import CorpusError, ProblemList
from zrag_core.settings import CorpusSettings, TargetSettings


def write(folder, documents, questions):
    for name, rows in (("corpus", documents), ("questions", questions)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def read(location, **more):
    return read_corpus(CorpusSettings(**({"format": "auto", "location": str(location)} | more)))


SENTENCES = [f"In {1900 + n} the town {name} built a bridge." for n, name in enumerate("Arl Bex Cor Dun Eft".split())]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans(), st.sampled_from(["Arl", "Bex", "1902", "Dun"])),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 5),
    st.sampled_from([8, 30, 384]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_targets_never_leak_between_splits_whatever_the_corpus_brings(tmp_path, rows, seed, passage_tokens):
    documents = [{"id": f"d{n}", "title": f"T{n}", "text": " ".join(SENTENCES[n:] + SENTENCES[:n])} for n in range(4)]
    questions = [
        {
            "id": f"q{n}",
            "question": f"Question {n % 7}?",
            "golden_answers": [answer],
            "doc_ids": [f"d{document}"],
            **({"evidence": SENTENCES[sentence]} if with_evidence else {}),
        }
        for n, (document, sentence, with_evidence, answer) in enumerate(rows)
    ]
    write(tmp_path, documents, questions)
    corpus = read(tmp_path, seed=seed, passage_tokens=passage_tokens)
    targets = build_targets(corpus, TargetSettings(self_study_per_sentence=1), seed)
    audit = audit_targets(corpus, targets)
    assert audit.leaks == 0, audit
    assert len(corpus.questions) == len(rows)


def town_folder(folder, count=30):
    documents = [{"id": f"d{n}", "text": f"Town {n} has {n + 100} houses. It lies by a lake."} for n in range(count)]
    questions = [
        {"id": f"q{n}", "question": f"Houses of {n}?", "golden_answers": [f"{n + 100}"], "doc_ids": [f"d{n}"]}
        for n in range(count)
    ]
    write(folder, documents, questions)


def test_a_split_does_not_depend_on_limits(tmp_path):
    documents = [{"id": f"d{n}", "text": f"Town {n} has {n + 100} houses. It lies by a lake."} for n in range(30)]
    questions = [  # every text is asked about three documents, so limits take members of facts away
        {"id": f"q{n}", "question": f"Houses {n % 10}?", "golden_answers": [f"{n + 100}"], "doc_ids": [f"d{n}"]}
        for n in range(30)
    ]
    write(tmp_path, documents, questions)
    full = {q.id: q.split for q in read(tmp_path).questions}
    limited = read(tmp_path, limit_documents=12, limit_questions=7)
    assert len(limited.documents) == 12
    assert len(limited.questions) == 7
    assert all(full[q.id] == q.split for q in limited.questions)
    assert limited.notes == (
        "limit_documents: 12 of 30 documents kept (seed 0)",
        "limit_documents: 18 questions left out because their documents were",
        "limit_questions: 7 of 12 questions kept (seed 0)",
    )


def test_reading_twice_gives_the_same_and_the_name_can_be_set(tmp_path):
    town_folder(tmp_path)
    assert read(tmp_path) == read(tmp_path, format="native")
    assert read(tmp_path).name == tmp_path.name
    assert read(tmp_path, name="towns").name == "towns"
    assert read(tmp_path, seed=1).questions != read(tmp_path).questions


def test_what_a_reader_should_know_is_noted(tmp_path):
    documents = [{"id": "a", "title": "T", "text": "Same."}, {"id": "b", "title": "T", "text": "Same."}]
    write(tmp_path, documents, [{"id": "q", "question": "?!", "golden_answers": ["Same"]}])
    assert read(tmp_path).notes == (
        "1 documents repeat the title and text of another: routing cannot tell them apart",
        "1 questions name no gold document: recall is not measured for them",
    )


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("no/such/folder/at/all", "no such file or folder"),
        ("./relative", "no such file or folder"),
        ("missing.json", "no such file or folder"),
        ("words.bin", "not a kind of file"),
    ],
)
def test_what_is_not_recognised_is_one_clear_line(tmp_path, monkeypatch, location, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.bin").write_text("a,b")
    with pytest.raises(CorpusError, match=message) as raised:
        read(location)
    assert str(raised.value).startswith(f"{location}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("chosen", ["native", "squad", "hotpotqa", "texts"])
def test_a_given_format_needs_something_to_read(tmp_path, chosen):
    with pytest.raises(CorpusError, match="no such file or folder"):
        read(tmp_path / "missing", format=chosen)


def test_formats_refuse_the_wrong_kind_of_place(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(CorpusError, match="name the folder"):
        read(tmp_path / "x.json", format="native")
    with pytest.raises(CorpusError, match="one JSON file"):
        read(tmp_path, format="squad")
    with pytest.raises(ProblemList, match="no HotpotQA data"):
        read(tmp_path / "x.json", format="hotpotqa")
    with pytest.raises(ProblemList, match="no SQuAD data"):
        read(tmp_path / "x.json", format="squad")
    with pytest.raises(CorpusError, match=r"no corpus\.jsonl"):
        read(tmp_path, format="native")


@pytest.fixture
def generator(monkeypatch):
    """Replaces the generator, so that what it is called with and what it makes can be chosen."""
    return lambda generate: monkeypatch.setattr("zrag_core.corpus.loaders.almanac.generate_almanac", generate)


def test_the_almanac_is_generated_as_its_settings_say(generator):
    def generate_almanac(n_documents, language, seed):
        rows = tuple(Document(f"d{n}", f"제목{n}", f"{language} {seed}.") for n in range(n_documents))
        return Corpus("almanac", rows, (Question("q", "?", ("x",), ("d0",), split="test"),))

    generator(generate_almanac)
    corpus = read_corpus(CorpusSettings(almanac={"documents": 3, "language": "ko", "seed": 9}))
    assert [d.text for d in corpus.documents] == ["ko 9."] * 3
    assert corpus.questions[0].split == "test"


def test_a_corpus_that_contradicts_itself_is_refused(generator):
    rows = (Document("d", "", "x"), Document("d", "", "y"))
    generator(lambda **_: Corpus("a", rows, (Question("q", "?", ("x",), ("e",)),)))
    with pytest.raises(ProblemList) as raised:
        read_corpus(CorpusSettings())
    assert raised.value.problems == [
        "document 'd': the id is used more than once",
        "question 'q': names 'e', which is not in the corpus",
    ]
