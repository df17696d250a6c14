"""Routing fused with another ranking: the order is that of the fusion, the probabilities stay the router's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory_fixtures import louder

from zrag_core.corpus.types import Document, Question
from zrag_core.evidence import Retrieved
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.inference.rank_fusion import RankFusion
from zrag_core.model.store.checkpoint import Checkpoint

N = 8
CORPUS = [Document(f"d{n}", f"Title {n}", "Text.") for n in range(N)]


class Ranked:
    """Ranks the documents as it is told, by question text."""

    name = "ranked"

    def __init__(self, rankings):
        self.rankings, self.asked = rankings, []

    def retrieve(self, questions):
        self.asked += [question.question for question in questions]
        return [Retrieved(q.id, tuple(self.rankings[q.question])) for q in questions]


@given(
    scores=st.lists(st.permutations(range(N)), min_size=2, max_size=2),
    others=st.lists(st.lists(st.integers(0, N - 1), unique=True), min_size=2, max_size=2),
    k=st.sampled_from([1, 60]),
)
def test_the_fused_order_takes_over_the_routers_probabilities(scores, others, k):
    log_p = torch.tensor(scores, dtype=torch.float64).log_softmax(1)
    texts = ["one", "two"]
    ranked = {text: [f"d{row}" for row in own] for text, own in zip(texts, others, strict=True)}
    fused = RankFusion(Ranked(ranked), CORPUS, rrf_k=k)(texts, log_p)
    for own, given_p, other in zip(fused, log_p, others, strict=True):
        assert own.sort().values.tolist() == given_p.sort().values.tolist()
        routed = given_p.argsort(descending=True).tolist()
        # Cormack et al.: the sum of 1 / (k + rank) over the rankings that hold a document.
        score = {row: 1 / (k + routed.index(row) + 1) for row in range(N)}
        for place, row in enumerate(other):
            score[row] += 1 / (k + place + 1)
        # Where the fusion is undecided, the router is asked.
        expected = sorted(range(N), key=lambda row: (-score[row], routed.index(row)))
        assert own.argsort(descending=True).tolist() == expected


def test_what_nobody_ranks_comes_last_and_without_another_ranking_nothing_changes():
    log_p = torch.tensor([[0.1, 0.4, 0.2, 0.3, 0, 0, 0, 0]]).log_softmax(1)
    assert torch.equal(RankFusion(Ranked({"one": []}), CORPUS, rrf_k=60)(["one"], log_p), log_p)


@pytest.fixture
def checkpoint(writer, documents, skill_settings, tmp_path):
    louder(writer)
    with torch.no_grad():
        writer.remember(documents, *writer.encode([sentence_ids(writer.backbone, d.text) for d in documents]))
    return Checkpoint("s", tmp_path, writer, documents, skill_settings, {})


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_model_reads_what_the_other_system_finds(checkpoint, documents, free, steps):
    text = "Where was Orla Venn born?"
    settings = checkpoint.settings.decoding.model_copy(
        update={"routed_documents": 1, "steps": steps, "max_new_tokens": 4}
    )

    def read(fusion):
        system = create_system("zrag_hybrid", checkpoint, settings, free=free, threads=1, fusion=fusion)
        return system.retrieve([Question("q", text)])[0]

    routed = list(read(None).document_ids)
    # The document in the last place but one would win only if both rankings had it first.
    other = Ranked({text: [routed[1]]})
    found = read(RankFusion(other, documents, rrf_k=60))
    assert other.asked == [text], "only what the question names is fused"
    assert found.document_ids[0] == routed[1]
    assert sorted(found.document_ids) == sorted(routed)
    assert {segment.document_id for segment in found.segments} == (set() if free else {routed[1]})
    by_id = {document.id: document for document in documents}
    assert all(by_id[s.document_id].text[s.start : s.end] == s.text for s in found.segments)
