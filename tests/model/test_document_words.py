"""Words of documents: rows and counts by hand, and scores that are BM25's."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.document_keys import DocumentKeys, StoredKeys
from zrag_core.model.architecture.document_words import document_frequency
from zrag_core.model.architecture.row_table import RowTable, as_bytes
from zrag_core.model.architecture.slot_router import inverse_frequency
from zrag_core.model.architecture.word_features import BUCKETS, bucket
from zrag_core.model.architecture.word_lists import WEIGHT, WORD, WordIndex, text_words, title_words
from zrag_core.text import search_terms

WORDS = st.sampled_from("Orla Venn bees Tessamor glazier Branmoor Little parrots 서린도 등대 lighthouse".split())
TEXT = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
CORPUS = st.lists(st.tuples(st.lists(WORDS, max_size=3).map(" ".join), TEXT), min_size=1, max_size=9).map(
    lambda rows: [Document(f"d{n}", title, text) for n, (title, text) in enumerate(rows)]
)


def _word_features(text):
    terms = search_terms(text)
    return terms + [term[:5] + "*" for term in terms if len(term) > 5]


def _title_features(text):
    terms = search_terms(text)
    return ["title:" + term for term in terms] + [f"title:{a} {b}" for a, b in itertools.pairwise(terms)]


def _present(document):
    return {*_word_features(document.text), *_title_features(document.title), *_title_features(document.text)}


def _title_weights(title):
    features = set(_title_features(title))
    return {feature: max(1, len(features)) ** -0.5 for feature in features}


def _text_weights(text):
    """BM25's term weights without idf."""
    frequency = Counter(_word_features(text))
    length = sum(frequency.values())
    return {feature: tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / 150)) for feature, tf in frequency.items()}


@settings(deadline=None, max_examples=30)
@given(CORPUS)
def test_a_row_holds_its_documents_words_and_weights_and_depends_on_nothing_else(corpus):
    for words, expected in (
        (title_words, [_title_weights(document.title) for document in corpus]),
        (text_words, [_text_weights(document.text) for document in corpus]),
    ):
        table = words(corpus)
        assert len(table) == len(corpus)
        for row, weights in enumerate(expected):
            own = table.select([row])
            found = dict(zip(own.columns[WORD].tolist(), own.columns[WEIGHT].tolist(), strict=True))
            by_bucket = {bucket(feature): weight for feature, weight in weights.items()}
            assert found == pytest.approx(by_bucket, rel=1e-3)
            assert own.columns[WORD].tolist() == sorted(found)
            alone = words([corpus[row]])
            assert all(torch.equal(own.columns[name], column) for name, column in alone.columns.items())


@settings(deadline=None, max_examples=30)
@given(CORPUS)
def test_document_counts_equal_a_count_by_hand(corpus):
    counts = Counter(feature for document in corpus for feature in _present(document))
    expected = torch.zeros(BUCKETS, dtype=torch.int32)
    for feature, count in counts.items():
        expected[bucket(feature)] += count
    assert len({bucket(feature) for feature in counts}) == len(counts), "no two of these words share a bucket"
    assert torch.equal(document_frequency(corpus), expected)


@settings(deadline=None, max_examples=20)
@given(CORPUS, CORPUS)
def test_adding_and_removing_documents_adds_and_removes_their_counts(kept, changed):
    both = document_frequency([*kept, *changed])
    assert torch.equal(both, document_frequency(kept) + document_frequency(changed))
    assert torch.equal(both - document_frequency(changed), document_frequency(kept))


def test_no_documents():
    assert len(title_words([])) == len(text_words([])) == title_words([]).size == 0
    assert document_frequency([]).sum() == 0


def _exact_score(query, document, corpus, title_weight):
    """Cosine of the title (but for the query's length) and BM25 of the text, with dictionaries."""
    counts = Counter(feature for other in corpus for feature in _present(other))

    def idf(feature):
        n = counts[feature]
        return math.log1p((len(corpus) - n + 0.5) / (n + 0.5))

    title, text = _title_weights(document.title), _text_weights(document.text)
    score = title_weight * sum(idf(feature) * title.get(feature, 0) for feature in _title_features(query))
    return score + sum(idf(feature) * text.get(feature, 0) for feature in _word_features(query))


def _word_scores(queries, corpus, idf, title_weight=1.0):
    """What documents without a sentence are routed by."""
    nothing = StoredKeys(RowTable(as_bytes(torch.zeros(0, 2)), torch.zeros(len(corpus), dtype=torch.int32)), 0.0)
    keys = DocumentKeys(WordIndex(title_words(corpus)), WordIndex(text_words(corpus)), idf, nothing)
    return keys.scores(queries, torch.zeros(len(queries), 2), torch.tensor([title_weight, 1.0, 1.0]))


@pytest.mark.parametrize("title_weight", [1.0, 3.0])
def test_scores_are_those_of_exact_word_weights(documents, title_weight):
    queries = [
        "Where was Orla Venn born?",
        "How deep is Lake Munar, and what nests at Lake Munar?",  # a word said twice counts twice
        "서린도는 어디에 있나?",
        "parrots and bees",
    ]
    idf = inverse_frequency(document_frequency(documents), len(documents))
    exact = torch.tensor(
        [[_exact_score(q, document, documents, title_weight) for document in documents] for q in queries]
    )
    assert exact.max() > 5
    # Weights are kept in half precision.
    assert torch.allclose(_word_scores(queries, documents, idf, title_weight), exact, rtol=1e-3, atol=1e-4)
    alone = torch.cat([_word_scores([query], documents, idf, title_weight) for query in queries])
    assert torch.allclose(alone, exact, rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(CORPUS, st.lists(TEXT, min_size=1, max_size=3))
def test_scores_of_any_words_are_exact(corpus, queries):
    idf = inverse_frequency(document_frequency(corpus), len(corpus))
    exact = torch.tensor([[_exact_score(q, document, corpus, 1.0) for document in corpus] for q in queries])
    assert torch.allclose(_word_scores(queries, corpus, idf), exact, rtol=1e-3, atol=1e-4)


def test_a_longer_name_is_not_its_part():
    corpus = [Document("a", "Branmoor", "A town."), Document("b", "Little Branmoor", "A town.")]
    queries = ["Who founded Little Branmoor?", "Who founded Branmoor?"]
    assert _word_scores(queries, corpus, torch.ones(BUCKETS)).argmax(1).tolist() == [1, 0]
