import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.lexical_keys import document_frequency, lexical_keys
from zrag_core.model.architecture.slot_router import RoutingKeys, SlotRouter, inverse_frequency
from zrag_core.model.architecture.word_features import BUCKETS, bucket
from zrag_core.text import search_terms

WORDS = st.sampled_from("Orla Venn bees Tessamor glazier Branmoor Little parrots 서린도 등대 lighthouse".split())
TEXT = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
CORPUS = st.lists(st.tuples(st.lists(WORDS, max_size=3).map(" ".join), TEXT), min_size=1, max_size=5).map(
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


@settings(deadline=None, max_examples=30)
@given(CORPUS)
def test_a_key_depends_on_its_document_alone(corpus):
    together = lexical_keys(corpus, 32, 48)
    assert together.shape == (len(corpus), 80)
    for row, document in enumerate(corpus):
        assert torch.equal(lexical_keys([document], 32, 48)[0], together[row])


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
    assert lexical_keys([], 8, 8).shape == (0, 16)
    assert document_frequency([]).sum() == 0


def _exact_score(query, document, corpus, title_weight):
    """Cosine of the title (but for the query's length) and BM25 of the text, with dictionaries."""
    counts = Counter(feature for other in corpus for feature in _present(other))

    def idf(feature):
        n = counts[feature]
        return torch.log1p(torch.tensor((len(corpus) - n + 0.5) / (n + 0.5))).item()

    title = set(_title_features(document.title))
    score = title_weight * sum(idf(f) for f in _title_features(query) if f in title) / max(1, len(title)) ** 0.5
    frequency = Counter(_word_features(document.text))
    length = sum(frequency.values())
    for feature in _word_features(query):
        tf = frequency[feature]
        score += idf(feature) * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / 150))
    return score


def _lexical_scores(router, queries, keys, idf):
    nothing = {"hidden": torch.zeros(len(queries), 1, 8), "mask": torch.zeros(len(queries), 1)}
    slots = {"z": torch.zeros(len(keys), 1, 4), "spans": torch.zeros(len(keys), 1, dtype=torch.int16)}
    parts = router.terms(queries, **nothing, keys=RoutingKeys(**slots, lexical=keys, idf=idf))
    return (router.log_scale.exp()[:2, None, None] * parts[:2]).sum(0)


@pytest.mark.parametrize("title_weight", [1.0, 3.0])
def test_scores_estimate_those_of_exact_word_weights(documents, title_weight):
    queries = ["Where was Orla Venn born?", "How deep is Lake Munar?", "서린도는 어디에 있나?", "parrots and bees"]
    width = 1 << 15
    router = SlotRouter(8, 4, 2, width, width)
    with torch.no_grad():
        router.log_scale.copy_(torch.tensor([title_weight, 1.0, 1.0]).log())
        idf = inverse_frequency(document_frequency(documents), len(documents))
        estimated = _lexical_scores(router, queries, lexical_keys(documents, width, width), idf)
    exact = torch.tensor(
        [[_exact_score(q, document, documents, title_weight) for document in documents] for q in queries]
    )
    assert exact.max() > 5
    assert torch.allclose(estimated, exact, atol=0.3)


def test_a_longer_name_is_not_its_part(documents):
    corpus = [Document("a", "Branmoor", "A town."), Document("b", "Little Branmoor", "A town.")]
    router = SlotRouter(8, 4, 2, 1 << 13, 64)
    idf = torch.ones(BUCKETS)
    with torch.no_grad():
        queries = ["Who founded Little Branmoor?", "Who founded Branmoor?"]
        scores = _lexical_scores(router, queries, lexical_keys(corpus, 1 << 13, 64), idf)
    assert scores.argmax(1).tolist() == [1, 0]
