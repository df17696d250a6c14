"""Routing scores of many documents, against a float64 reference that looks at one document at a time."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.corpus.types import Document
from zrag_core.model.architecture import document_keys
from zrag_core.model.architecture.document_keys import DocumentKeys, StoredKeys
from zrag_core.model.architecture.document_words import title_ids
from zrag_core.model.architecture.row_table import NUMBERS, SCALE, RowTable, as_bytes
from zrag_core.model.architecture.word_features import BUCKETS, feature_ids
from zrag_core.model.architecture.word_lists import WEIGHT, WORD, WordIndex, text_words, title_words

N, WIDTH, BEST = 3_000, 24, 100
QUERIES = ["w1 w2 w3", "w4", "nothing of it", "w5 w5 w6 w1", "w7 w8"]
SCALES = torch.tensor([0.4, 0.3, 5.0])


def rows_of(table):
    """{word: weight} of each document."""
    ends = table.counts.cumsum(0).tolist()
    words, weights = table.columns[WORD].tolist(), table.columns[WEIGHT].double().tolist()
    return [
        dict(zip(words[end - n : end], weights[end - n : end], strict=True))
        for end, n in zip(ends, table.counts.tolist(), strict=True)
    ]


class Memory:
    """Documents of a few words, with random keys of 0 to 6 sentences each."""

    def __init__(self, n, seed, absent, most=6):
        rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
        texts = [" ".join(rng.choices([f"w{i}" for i in range(60)], k=rng.randint(0, 9))) for _ in range(2 * n)]
        documents = [Document(str(i), texts[2 * i][:6].strip(), texts[2 * i + 1]) for i in range(n)]
        self.titles, self.texts = title_words(documents), text_words(documents)
        counts = torch.tensor([rng.randint(0, most) for _ in range(n)], dtype=torch.int32)
        keys = torch.nn.functional.normalize(torch.randn(int(counts.sum()), WIDTH, generator=generator), dim=-1)
        self.table, self.absent = RowTable(as_bytes(keys), counts), absent
        self.idf = torch.rand(BUCKETS, generator=generator) * 5
        self.queries = torch.nn.functional.normalize(torch.randn(len(QUERIES), WIDTH, generator=generator), dim=-1)
        self.sentences = StoredKeys(self.table, absent)
        self.keys = DocumentKeys(WordIndex(self.titles), WordIndex(self.texts), self.idf, self.sentences)

    def words(self, table, bag):
        """Inner products [N] with a bag of words, with dictionaries."""
        asked = {word: count * float(self.idf[word]) for word, count in Counter(bag).items()}
        return [sum(weight * asked.get(word, 0.0) for word, weight in row.items()) for row in rows_of(table)]

    def best(self, query):
        """The best product [N] of a query [k] with a sentence of each document."""
        keys = self.table.columns[NUMBERS].double() * self.table.columns[SCALE].double()[:, None]
        products = (keys @ query.double()).tolist()
        ends = self.table.counts.cumsum(0).tolist()
        counts = self.table.counts.tolist()
        return [max(products[end - n : end]) if n else self.absent for end, n in zip(ends, counts, strict=True)]

    def reference(self, number):
        """Scores [N] of a question in float64."""
        text, query = QUERIES[number], self.queries[number]
        parts = self.words(self.titles, title_ids(text)), self.words(self.texts, feature_ids(text)), self.best(query)
        return SCALES.double() @ torch.tensor(parts, dtype=torch.float64)

    def alone(self, number):
        """Scores [N] of a question that is asked by itself."""
        return self.keys.scores([QUERIES[number]], self.queries[number : number + 1], SCALES)[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("absent", [-1e4, -1.0])
def test_the_best_hundred_and_their_order_are_those_of_exact_scores(seed, absent):
    memory = Memory(N, seed, absent)
    together = memory.keys.scores(QUERIES, memory.queries, SCALES)
    rounded = 0
    for number, own in enumerate(together):
        exact = memory.reference(number)
        expected = exact.argsort(descending=True)[:BEST]
        assert torch.allclose(own.double(), exact, atol=1e-4, rtol=1e-5)
        found = memory.alone(number)
        for scores in (own, found):
            assert scores.argsort(descending=True)[:BEST].tolist() == expected.tolist()
            assert torch.allclose(scores[expected].double(), exact[expected], atol=1e-4)
        # Of the others a score may be off, by what rounding the question may change, and is among no best ones.
        _, off_by = memory.sentences.nearly(memory.queries[number])
        off = (found - exact).abs() / SCALES[2]
        assert off.max() <= off_by + 1e-4
        rounded += int((off > 1e-4).sum())
    assert rounded > N, "else nothing was rounded"


@pytest.mark.parametrize("seed", range(3))
def test_what_is_nearly_right_is_off_by_no_more_than_it_says(seed):
    memory = Memory(400, seed, 0.0)
    for size in (1.0, 100.0, 1e-2, 1e-4, 1e-7):  # below 1e-3 half precision holds no scale that fits
        query = memory.queries[0] * size
        near, off_by = memory.sentences.nearly(query)
        exact = torch.tensor(memory.best(query))
        assert ((near - exact).abs() <= off_by + 1e-5 * exact.abs()).all()
        assert size < 1e-3 or off_by < 0.05 * exact.abs().max(), "which is little"


def test_of_rounded_scores_alone_the_order_would_be_another():
    """What the second look at the best ones is for."""
    memory, orders = Memory(N, 0, -1.0), set()
    for scores in (memory.sentences.nearly(memory.queries[0])[0], torch.tensor(memory.best(memory.queries[0]))):
        orders.add(tuple(scores.argsort(descending=True)[:BEST].tolist()))
    assert len(orders) == 2


@pytest.mark.parametrize("n", [1, 2, 99, 101])
def test_few_documents_are_all_scored_exactly(n):
    memory = Memory(n, n, -1.0)
    for number in range(len(QUERIES)):
        exact = memory.reference(number)
        assert torch.allclose(memory.keys.scores(QUERIES, memory.queries, SCALES)[number].double(), exact, atol=1e-4)
        if n <= BEST:
            assert torch.allclose(memory.alone(number).double(), exact, atol=1e-4)


def test_terms_are_titles_texts_and_sentences():
    memory = Memory(50, 1, -1.0)
    terms = memory.keys.terms(QUERIES, memory.queries)
    assert terms.shape == (3, len(QUERIES), 50)
    for number, text in enumerate(QUERIES):
        parts = memory.words(memory.titles, title_ids(text)), memory.words(memory.texts, feature_ids(text))
        for term, part in zip(terms[:, number], (*parts, memory.best(memory.queries[number])), strict=True):
            assert torch.allclose(term, torch.tensor(part), atol=1e-4)
    assert (terms.amax((1, 2)) > 0).all()
    assert torch.equal(memory.keys.title_scores(QUERIES), terms[0])


def test_documents_without_sentences_have_what_is_absent():
    memory = Memory(60, 2, -7.5)
    empty = memory.table.counts == 0
    assert 0 < empty.sum() < 60
    found = memory.sentences.best(memory.queries)
    assert (found[:, empty] == -7.5).all()
    assert (found[:, ~empty].abs() <= 1.01).all()
    assert (memory.sentences.nearly(memory.queries[0])[0][empty] == -7.5).all()


@pytest.mark.parametrize("queries", [1, len(QUERIES)])
@pytest.mark.parametrize("n", [0, 3])
def test_a_memory_without_documents_or_without_sentences(n, queries):
    memory = Memory(n, 3, -7.5, most=0)
    found = memory.keys.scores(QUERIES[:queries], memory.queries[:queries], SCALES)
    assert found.shape == (queries, n)
    assert memory.keys.terms(QUERIES[:queries], memory.queries[:queries])[2].tolist() == [[-7.5] * n] * queries
    for number in range(queries):
        assert torch.allclose(found[number].double(), memory.reference(number), atol=1e-4)


@pytest.mark.parametrize("queries", [1, len(QUERIES)])
def test_what_is_kept_is_compared_also_where_gradients_are_made(queries):
    memory = Memory(40, 5, -1.0)
    texts, plain = QUERIES[:queries], memory.queries[:queries]
    found = memory.keys.scores(texts, plain.clone().requires_grad_(), SCALES.clone().requires_grad_())
    assert torch.equal(found, memory.keys.scores(texts, plain, SCALES))


@pytest.mark.parametrize("rows", [None, [4, 0, 4, 39], []])
@pytest.mark.parametrize("chunk", [1, 7 * WIDTH, 1 << 20])
def test_keys_are_compared_a_few_at_a_time(rows, chunk, monkeypatch):
    memory = Memory(40, 4, -1.0)
    monkeypatch.setattr(document_keys, "_CHUNK", chunk)
    chosen = list(range(40)) if rows is None else rows
    expected = torch.tensor([memory.best(query) for query in memory.queries])[:, chosen]
    sentences = StoredKeys(memory.table, -1.0)
    assert torch.allclose(sentences.best(memory.queries, rows), expected, atol=1e-5)
    near, off_by = sentences.nearly(memory.queries[0])
    assert ((near - torch.tensor(memory.best(memory.queries[0]))).abs() <= off_by + 1e-5).all()


def test_the_largest_products_are_right():
    """127 x 127 as often as keys have numbers; and widths that fill no register."""
    for width in (1, 13, 64, 1024, 4096):
        keys = torch.cat([torch.ones(1, width), -torch.ones(1, width)])
        sentences = StoredKeys(RowTable(as_bytes(keys), torch.ones(2, dtype=torch.int32)), 0.0)
        near, off_by = sentences.nearly(torch.ones(width))
        assert near.tolist() == pytest.approx([width, -width], rel=1e-3)
        assert off_by < 1e-3 * width


# --- words ----------------------------------------------------------------------------------------

BAG = st.lists(st.sampled_from([0, 1, 5, 77, 4_000, BUCKETS - 1]), max_size=6)
"""Words with repetitions, few enough to meet."""


@given(st.lists(BAG, max_size=6), st.lists(BAG, max_size=4), st.integers(0, 2**31))
def test_an_index_scores_as_a_loop_with_dictionaries(documents, queries, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = [sorted(set(bag)) for bag in documents]
    words = torch.tensor([word for row in rows for word in row], dtype=torch.int32)
    weights = torch.rand(len(words), generator=generator).half()
    counts = torch.tensor([len(row) for row in rows], dtype=torch.int32)
    table = RowTable({WORD: words, WEIGHT: weights}, counts)
    idf = torch.rand(BUCKETS, generator=generator)
    found = WordIndex(table).scores(queries, idf)
    assert found.shape == (len(queries), len(rows))
    assert found.dtype == torch.float32
    for scores, bag in zip(found.tolist(), queries, strict=True):
        expected = [sum(row.get(word, 0.0) * float(idf[word]) for word in bag) for row in rows_of(table)]
        assert np.allclose(scores, expected, atol=1e-5)
