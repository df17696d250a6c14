"""BM25 against a direct formula, its two systems, and its folder."""

import json
import math
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zrag_core.baselines.bm25 import Bm25Index, Bm25System
from zrag_core.baselines.ranking import top_indices
from zrag_core.corpus.types import Document, Question
from zrag_core.errors import CheckpointError, CorpusError
from zrag_core.evidence import fill_budget
from zrag_core.settings import BaselineSettings
from zrag_core.text import search_terms

SETTINGS = BaselineSettings()
DOCUMENTS = [
    Document(
        "a", "Lake Orla", "Lake Orla lies in the north. Its water is used by Tarn.\n\nThe lake is 40 metres deep."
    ),
    Document("b", "Tarn", "Tarn is a town of weavers. It was founded in 1412 by Ilse Maar."),
    Document("c", "한빛강", "한빛강은 북쪽에서 흐른다. 이 강의 길이는 120킬로미터이다."),
    Document("d", "", "The weavers' guild meets in spring."),
]


def direct_bm25(query: str, texts: list[str], k1: float, b: float, epsilon: float = 0.25) -> list[float]:
    """BM25 written down from the formula, one document and term at a time."""
    terms = [search_terms(text) for text in texts]
    n, average = len(texts), sum(map(len, terms)) / len(texts)
    idf = {}
    for term in {term for document in terms for term in document}:
        holding = sum(term in document for document in terms)
        idf[term] = math.log((n - holding + 0.5) / (holding + 0.5))
    mean_idf = sum(idf.values()) / len(idf)
    if mean_idf < 1e-9:
        idf = {term: math.log(1 + math.exp(value)) for term, value in idf.items()}
    else:
        idf = {term: epsilon * mean_idf if value < 0 else value for term, value in idf.items()}
    scores = []
    for document in terms:
        score = 0.0
        for term in search_terms(query):
            frequency = document.count(term)
            length = k1 * (1 - b + b * len(document) / average)
            if frequency == 0:
                continue
            score += idf.get(term, 0.0) * frequency * (k1 + 1) / (frequency + length)
        scores.append(score)
    return scores


WORDS = st.sampled_from("tarn orla lake weaver north 1412 deep 한빛강 강의 북쪽".split())
TEXTS = st.lists(st.lists(WORDS, max_size=12).map(" ".join), min_size=1, max_size=8).filter(any)


@given(texts=TEXTS, query=st.lists(WORDS, max_size=6).map(" ".join), k1=st.floats(0, 3), b=st.floats(0, 1))
@example(texts=["tarn lake", "", "orla"], query="tarn orla", k1=0.0, b=1.0)
@settings(max_examples=150, deadline=None)
def test_scores_are_those_of_the_formula(texts, query, k1, b):
    index = Bm25Index.build(
        [Document(str(i), "", text) for i, text in enumerate(texts)], BaselineSettings(bm25_k1=k1, bm25_b=b)
    )
    np.testing.assert_allclose(index.scores(query), direct_bm25(query, texts, k1, b), rtol=1e-6, atol=1e-9)


@given(texts=TEXTS, query=WORDS)
@settings(max_examples=100, deadline=None)
def test_a_match_never_scores_below_a_miss(texts, query):
    """Also in corpora so small that every plain idf is negative."""
    scores = Bm25Index.build([Document(str(i), "", text) for i, text in enumerate(texts)], SETTINGS).scores(query)
    holds = np.array([not set(search_terms(query)).isdisjoint(search_terms(text)) for text in texts])
    if holds.any() and not holds.all():
        assert scores[holds].min() >= scores[~holds].max()


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 40))
def test_top_indices_is_a_stable_sort(scores, k):
    expected = sorted(range(len(scores)), key=lambda i: -scores[i])[:k]
    assert top_indices(np.array(scores, dtype=float), k).tolist() == expected


def test_passages_rank_and_fill_a_budget():
    system = Bm25System(Bm25Index.build(DOCUMENTS, SETTINGS), DOCUMENTS)
    assert system.name == "bm25"
    questions = [Question("q1", "Who founded the town of weavers in 1412?"), Question("q2", "한빛강의 길이")]
    town, river = system.retrieve(questions)
    assert (town.question_id, river.question_id) == ("q1", "q2")
    assert town.document_ids[0] == "b"
    assert river.document_ids[0] == "c"  # the particle 의 does not hide the river
    assert set(town.document_ids) == {"a", "b", "c", "d"}
    assert list(town.document_scores) == sorted(town.document_scores, reverse=True)
    assert town.segments[0].text == DOCUMENTS[1].text
    assert fill_budget(town, 10_000).text.startswith(DOCUMENTS[1].text)
    assert town.latency_ms > 0


def test_sentences_point_into_their_documents():
    system = Bm25System(Bm25Index.build(DOCUMENTS, SETTINGS, unit="sentence"), DOCUMENTS)
    assert system.name == "bm25_sentence"
    (found,) = system.retrieve([Question("q", "How deep is Lake Orla?")])
    texts = {document.id: document.text for document in DOCUMENTS}
    assert found.segments[0].text == "The lake is 40 metres deep."
    assert all(texts[s.document_id][s.start : s.end] == s.text for s in found.segments)
    assert len(found.segments) == 8
    # Documents stand in the order of their best sentence.
    order = list(dict.fromkeys(s.document_id for s in found.segments))
    assert [i for i in found.document_ids if i in order] == order
    best = {s.document_id: s.score for s in reversed(found.segments)}
    assert dict(zip(found.document_ids, found.document_scores, strict=True)) == best


def test_the_title_counts_for_every_sentence():
    documents = [Document("x", "Orla", "It is deep."), Document("y", "Maar", "It is deep.")]
    system = Bm25System(Bm25Index.build(documents, SETTINGS, unit="sentence"), documents)
    assert [r.document_ids[0] for r in system.retrieve([Question("1", "Orla"), Question("2", "Maar")])] == ["x", "y"]


def test_ten_documents_even_where_one_fills_the_list():
    long = Document("long", "Orla", " ".join(f"Orla {i} is here." for i in range(200)))
    others = [Document(f"o{i:02}", "", f"Nothing {i}.") for i in range(20)]
    system = Bm25System(Bm25Index.build([long, *others], SETTINGS, unit="sentence"), [long, *others])
    (found,) = system.retrieve([Question("q", "Orla")])
    assert {s.document_id for s in found.segments} == {"long"}
    assert len(set(found.document_ids)) == 21
    assert found.document_ids[:3] == ("long", "o00", "o01")  # ties stay in corpus order


@pytest.mark.parametrize("unit", ["passage", "sentence"])
def test_a_stored_index_scores_the_same(tmp_path, unit):
    built = Bm25Index.build(DOCUMENTS, BaselineSettings(bm25_k1=0.9, bm25_b=0.4), unit=unit, corpus_version="v1")
    built.save(tmp_path / "index")
    loaded = Bm25Index.load(tmp_path / "index")
    for query in ("town of weavers", "한빛강", "unknownword"):
        assert np.array_equal(loaded.scores(query), built.scores(query))
    assert (loaded.unit, loaded.corpus_version, loaded.document_ids) == (unit, "v1", ("a", "b", "c", "d"))
    config = json.loads((tmp_path / "index" / "config.json").read_text(encoding="utf-8"))
    assert config["kind"] == "bm25"
    assert config["k1"] == 0.9
    assert config["document_ids"] == ["a", "b", "c", "d"]
    assert "한빛" in (tmp_path / "index" / "terms.jsonl").read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_saving_again_replaces(tmp_path):
    Bm25Index.build(DOCUMENTS, SETTINGS).save(tmp_path / "index")
    Bm25Index.build(DOCUMENTS[:2], SETTINGS).save(tmp_path / "index")
    assert Bm25Index.load(tmp_path / "index").document_ids == ("a", "b")
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_a_damaged_or_foreign_folder_is_named(tmp_path):
    folder = tmp_path / "index"
    with pytest.raises(CheckpointError, match=r"config\.json.*build the index again"):
        Bm25Index.load(folder)
    Bm25Index.build(DOCUMENTS, SETTINGS).save(folder)
    terms = (folder / "terms.jsonl").read_text(encoding="utf-8")
    (folder / "terms.jsonl").write_text(terms[: terms.index("\n") + 1], encoding="utf-8")
    with pytest.raises(CheckpointError, match="1 of 4 pieces"):
        Bm25Index.load(folder)
    (folder / "terms.jsonl").write_text("{broken\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="damaged"):
        Bm25Index.load(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for change, message in (({"kind": "dense"}, "not a bm25 index"), ({"format_version": 99}, "format version 99")):
        (folder / "config.json").write_text(json.dumps({**config, **change}), encoding="utf-8")
        with pytest.raises(CheckpointError, match=message):
            Bm25Index.load(folder)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        Bm25Index.load(folder)


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot write the index"):
        Bm25Index.build(DOCUMENTS, SETTINGS).save(tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"


def test_an_index_of_another_corpus_is_refused():
    index = Bm25Index.build(DOCUMENTS, SETTINGS)
    with pytest.raises(CheckpointError, match=r"1 documents differ \('d' is in the index but not in the corpus\)"):
        Bm25System(index, DOCUMENTS[:3])
    with pytest.raises(CheckpointError, match="'new' is in the corpus but not in the index"):
        Bm25System(index, [*DOCUMENTS, Document("new", "", "More.")])


def test_a_corpus_without_words_is_refused():
    with pytest.raises(CorpusError, match="no document holds a word"):
        Bm25Index.build([Document("a", "", "?!"), Document("b", "", "...")], SETTINGS)


def test_three_hundred_questions_over_three_hundred_documents_are_quick():
    generator = np.random.default_rng(0)
    vocabulary = [f"w{i}" for i in range(3000)]
    documents = [Document(str(i), "", " ".join(generator.choice(vocabulary, 120))) for i in range(300)]
    questions = [Question(str(i), " ".join(generator.choice(vocabulary, 12))) for i in range(300)]
    system = Bm25System(Bm25Index.build(documents, SETTINGS), documents)
    started = time.process_time()
    assert len(system.retrieve(questions)) == 300
    assert time.process_time() - started < 5
