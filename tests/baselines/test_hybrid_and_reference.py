"""Rank fusion, and the two ends of the scale."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.baselines.bm25 import Bm25Index, Bm25System
from zrag_core.baselines.dense import DenseIndex, DenseSystem
from zrag_core.baselines.hybrid import HybridSystem, reciprocal_rank_fusion
from zrag_core.baselines.reference import ClosedBookSystem, GoldEvidenceSystem
from zrag_core.corpus.types import Document, EvidenceTarget, Question
from zrag_core.evidence import Retrieved, fill_budget
from zrag_core.settings import BaselineSettings

DOCUMENTS = [
    Document("lake", "Lake Orla", "Lake Orla lies in the north. It is deep."),
    Document("town", "Tarn", "Tarn is a town of weavers. Ilse Maar founded it."),
    Document("river", "한빛강", "한빛강은 북쪽에서 흐른다. 길이는 120킬로미터이다."),
]


def test_fusion_by_hand():
    fused = reciprocal_rank_fusion([["a", "b", "c"], ["c", "a"]], k=60)
    assert [document for document, _ in fused] == ["a", "c", "b"]
    assert dict(fused) == pytest.approx({"a": 1 / 61 + 1 / 62, "b": 1 / 62, "c": 1 / 63 + 1 / 61})


@given(st.lists(st.permutations("abcdef"), min_size=1, max_size=4), st.integers(1, 100))
def test_fusion_keeps_agreement_and_breaks_ties_by_first_appearance(rankings, k):
    fused = reciprocal_rank_fusion(rankings, k)
    scores = {d: sum(1 / (k + r.index(d) + 1) for r in rankings) for d in "abcdef"}
    assert dict(fused) == pytest.approx(scores)
    assert [s for _, s in fused] == sorted((s for _, s in fused), reverse=True)
    assert [d for d, _ in reciprocal_rank_fusion([rankings[0]] * 3, k)] == list(rankings[0])
    pair = reciprocal_rank_fusion([["x", "y"], ["y", "x"]], k)
    assert [d for d, _ in pair] == ["x", "y"]


class FixedRanking:
    """Ranks the same documents for every question."""

    def __init__(self, name, ids, latency):
        self.name, self._ids, self._latency = name, ids, latency

    def retrieve(self, questions):
        return [Retrieved(q.id, tuple(self._ids), latency_ms=self._latency) for q in questions]


def test_hybrid_fuses_what_its_systems_rank():
    parts = [FixedRanking("one", ["lake", "town", "river"], 2.0), FixedRanking("two", ["town", "river"], 3.0)]
    (found,) = HybridSystem(parts, DOCUMENTS, rrf_k=60).retrieve([Question("q", "?")])
    assert found.document_ids == ("town", "river", "lake")
    assert found.document_scores[0] == pytest.approx(1 / 62 + 1 / 61)
    assert found.segments[0].text == DOCUMENTS[1].text
    assert found.latency_ms == 5.0


def test_hybrid_of_the_real_systems():
    settings = BaselineSettings()
    bm25 = Bm25System(Bm25Index.build(DOCUMENTS, settings), DOCUMENTS)
    dense = DenseSystem(DenseIndex.build(DOCUMENTS, settings), DOCUMENTS)
    questions = [Question("1", "town of weavers"), Question("2", "한빛강의 길이")]
    found = HybridSystem([bm25, dense], DOCUMENTS, rrf_k=60).retrieve(questions)
    assert [r.document_ids[0] for r in found] == ["town", "river"]


def test_closed_book_hands_over_nothing():
    (found,) = ClosedBookSystem().retrieve([Question("q", "?")])
    assert found.document_ids == ()
    assert found.answerable
    assert fill_budget(found, 512).text == ""


def target(evidence: str, *documents: str) -> EvidenceTarget:
    return EvidenceTarget("q", "?", documents, evidence, "gold", "test")


@pytest.mark.parametrize(
    ("evidence", "documents", "pieces"),
    [
        ("It is deep.", ["lake"], ["It is deep."]),
        ("Lake Orla lies in the north. It is deep.", ["lake"], ["Lake Orla lies in the north. It is deep."]),
        ("It is deep. Ilse Maar founded it.", ["lake", "town"], ["It is deep.", "Ilse Maar founded it."]),
        ("길이는 120킬로미터이다.", ["river"], ["길이는 120킬로미터이다."]),
    ],
)
def test_gold_evidence_is_located_in_its_documents(evidence, documents, pieces):
    system = GoldEvidenceSystem({"q": target(evidence, *documents)}, DOCUMENTS)
    (found,) = system.retrieve([Question("q", "?")])
    texts = {document.id: document.text for document in DOCUMENTS}
    assert [segment.text for segment in found.segments] == pieces
    assert all(texts[s.document_id][s.start : s.end] == s.text for s in found.segments)
    assert found.document_ids == tuple(documents)
    assert fill_budget(found, 512).text == "\n".join(pieces)


def test_gold_evidence_in_other_words_is_text():
    system = GoldEvidenceSystem({"q": target("It is deep. Nobody knows why.", "lake")}, DOCUMENTS)
    (found,) = system.retrieve([Question("q", "?")])
    assert found.segments == ()
    assert fill_budget(found, 512).text == "It is deep. Nobody knows why."


def test_gold_evidence_refuses_without_a_target():
    (found,) = GoldEvidenceSystem({}, DOCUMENTS).retrieve([Question("q", "?")])
    assert not found.answerable
    assert fill_budget(found, 512).text == ""
