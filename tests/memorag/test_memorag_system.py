"""MemoRAG as a system: clues retrieve what the question alone does not, and what they find is merged and ordered."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from faulty_server import Reply, error_body, serving
from hypothesis import given
from hypothesis import strategies as st

from zrag_core.answering.client import OpenAIReader
from zrag_core.baselines.bm25 import Bm25Index, Bm25System
from zrag_core.baselines.dense import DenseIndex, DenseSystem
from zrag_core.baselines.hybrid import HybridSystem
from zrag_core.corpus.types import Document, Question
from zrag_core.evidence import Retrieved, Segment, fill_budget
from zrag_core.memorag.clue_memory import Clues, Draft, Usage
from zrag_core.memorag.corpus_summaries import build_summaries
from zrag_core.memorag.memorag_system import MemoragSystem
from zrag_core.memorag.summary_memory import SummaryMemory, light_settings
from zrag_core.sentences import split_sentences
from zrag_core.settings import AnswerSettings, BaselineSettings, MemoragSettings

ENGLISH = Question("q0", "Which town honoured a painter?", ("Tessamor",), ("d1",), evidence="secret")
KOREAN = Question("q1", "시인은 무엇을 받았나?", language="ko")


class Scripted:
    """A memory that says what it is told to, by question id."""

    name = "scripted"

    def __init__(self, drafts, clues):
        self.drafts, self.lines = drafts, clues

    def draft(self, questions):
        return [Draft(self.drafts.get(q.id, ""), Usage(0.25, 10, 2)) for q in questions]

    def clues(self, questions, drafts):
        return [Clues(tuple(self.lines.get(q.id, ())), Usage(0.5, 20, 3)) for q in questions]


class Ranked:
    """A retriever with a fixed ranking for each query text; remembers what it was asked."""

    name = "ranked"

    def __init__(self, rankings):
        self.rankings, self.asked = rankings, []

    def retrieve(self, questions):
        self.asked += questions
        return [
            Retrieved(q.id, tuple(self.rankings[q.question]), (1.0,) * len(self.rankings[q.question]), latency_ms=2.0)
            for q in questions
        ]


def retrievers(documents):
    settings = BaselineSettings(lsa_dimensions=32)
    bm25 = Bm25System(Bm25Index.build(documents, settings), documents)
    dense = DenseSystem(DenseIndex.build(documents, settings), documents)
    return {"bm25": bm25, "dense": dense, "hybrid": HybridSystem([bm25, dense], documents, rrf_k=60)}


@pytest.mark.parametrize("kind", ["bm25", "dense", "hybrid"])
def test_a_clue_leads_where_the_question_does_not(harbour, kind):
    clues = {"q0": ["Where is the Halden Prize awarded?"], "q1": ["해림상은 해마다 서린도에서 주는 문학상이다"]}
    retriever = retrievers(harbour)[kind]
    system = MemoragSystem("memorag", Scripted({"q0": "Halden Prize"}, clues), retriever, harbour, 1, rrf_k=60)
    english, korean = system.retrieve([ENGLISH, KOREAN])
    alone = retriever.retrieve([ENGLISH, KOREAN])
    for found, plain, gold in ((english, alone[0], "d1"), (korean, alone[1], "d9")):
        assert gold in {segment.document_id for segment in found.segments}
        assert plain.document_ids[0] in {segment.document_id for segment in found.segments}
        assert plain.document_ids[0] != gold
        for segment in found.segments:
            text = next(document.text for document in harbour if document.id == segment.document_id)
            assert text[segment.start : segment.end] == segment.text == text
    assert (english.question_id, korean.question_id) == ("q0", "q1")


def corpus(n):
    return [Document(f"d{i}", f"Title {i}", f"Text number {i}.") for i in range(n)]


@given(
    rankings=st.lists(st.permutations([f"d{i}" for i in range(14)]), min_size=1, max_size=4),
    per_clue=st.integers(1, 5),
    k=st.sampled_from([1, 60]),
)
def test_the_best_passages_of_each_clue_are_merged(rankings, per_clue, k):
    texts = [ENGLISH.question, *(f"clue {n}" for n in range(1, len(rankings)))]
    retriever = Ranked(dict(zip(texts, rankings, strict=True)))
    memory = Scripted({}, {"q0": texts[1:]})
    (found,) = MemoragSystem("memorag", memory, retriever, corpus(14), per_clue, rrf_k=k).retrieve([ENGLISH])
    # Cormack et al.: the sum of 1 / (k + rank) over the rankings that hold a document.
    expected = {}
    for ranking in rankings:
        for place in range(per_clue):
            expected[ranking[place]] = expected.get(ranking[place], 0.0) + 1 / (k + place + 1)
    shown = [segment.document_id for segment in found.segments]
    assert sorted(shown) == sorted(expected)
    assert [segment.score for segment in found.segments] == pytest.approx([expected[d] for d in shown])
    assert [expected[d] for d in shown] == sorted(expected.values(), reverse=True)
    # All documents are ranked once, the passages before the others.
    assert sorted(found.document_ids) == sorted(f"d{i}" for i in range(14))
    assert list(found.document_ids[: len(shown)]) == shown
    assert list(found.document_scores) == sorted(found.document_scores, reverse=True)
    assert found.answerable
    assert found.text is None


def test_without_clues_the_question_alone_is_looked_for():
    retriever = Ranked({ENGLISH.question: [f"d{i}" for i in (5, 2, 9, 1, 0)]})
    (found,) = MemoragSystem("memorag", Scripted({}, {}), retriever, corpus(10), 3, rrf_k=60).retrieve([ENGLISH])
    assert found.document_ids == ("d5", "d2", "d9", "d1", "d0")
    assert [segment.document_id for segment in found.segments] == ["d5", "d2", "d9"]


def test_the_retriever_is_asked_once_and_told_nothing_but_the_words():
    retriever = Ranked({text: ["d0"] for text in (ENGLISH.question, KOREAN.question, "a", "b")})
    memory = Scripted({}, {"q0": ["a", "b"]})
    system = MemoragSystem("memorag", memory, retriever, corpus(1), 3, rrf_k=60)
    found = system.retrieve([ENGLISH, KOREAN])
    assert [q.question for q in retriever.asked] == [ENGLISH.question, "a", "b", KOREAN.question]
    assert len({q.id for q in retriever.asked}) == 4
    assert retriever.asked[-1].language == "ko"
    assert not any(q.golden_answers or q.document_ids or q.evidence for q in retriever.asked)
    # Two milliseconds for each query, and the memory's share.
    assert 6.0 <= found[0].latency_ms < 60.0
    assert found[0].latency_ms - found[1].latency_ms == pytest.approx(4.0)


def test_everything_is_kept_for_each_question():
    retriever = Ranked({ENGLISH.question: ["d0", "d1"], "a": ["d1", "d2"], KOREAN.question: ["d3"]})
    memory = Scripted({"q0": "a draft"}, {"q0": ["a"]})
    system = MemoragSystem("memorag", memory, retriever, corpus(4), 2, rrf_k=60)
    system.retrieve([ENGLISH])
    system.retrieve([KOREAN])
    assert list(system.traces) == ["q0", "q1"]
    assert asdict(system.traces["q0"]) == {
        "question_id": "q0",
        "draft": "a draft",
        "clues": ("a",),
        "found": (("d0", "d1"), ("d1", "d2")),
        "passages": ("d1", "d0", "d2"),
        "usage": {"cost_usd": 0.75, "prompt_tokens": 30, "completion_tokens": 5},
        "error": None,
    }
    assert system.retrieve([]) == []


@given(budget=st.integers(1, 120), order=st.permutations(range(6)))
def test_evidence_is_shown_in_document_order(budget, order):
    documents = [Document(f"x{9 - i}", "제목", f"{i}번 문서이다. It has a few words more.") for i in range(6)]
    retriever = Ranked({ENGLISH.question: [documents[i].id for i in order]})
    system = MemoragSystem("memorag", Scripted({}, {}), retriever, documents, 6, rrf_k=60)
    (found,) = system.retrieve([ENGLISH])
    best_first = fill_budget(found, budget)
    shown = system.arrange(best_first)
    places = [documents.index(next(d for d in documents if d.id == s.document_id)) for s in shown.segments]
    assert places == sorted(places)
    assert set(shown.segments) == set(best_first.segments)
    assert shown.tokens == best_first.tokens <= budget
    assert shown.text == "\n".join(segment.text for segment in shown.segments)


def test_two_segments_of_one_document_keep_the_order_of_its_text(harbour):
    system = MemoragSystem("memorag", Scripted({}, {}), Ranked({}), harbour, 3, rrf_k=60)
    sentences = retrieved_sentences(harbour[2])
    backwards = Retrieved("q0", segments=tuple(reversed(sentences)))
    assert system.arrange(fill_budget(backwards, 100)).segments == tuple(sentences)
    assert system.arrange(fill_budget(Retrieved("q0"), 100)).text == ""


def retrieved_sentences(document):
    return [Segment(document.id, span.start, span.end, span.text, 1.0) for span in split_sentences(document.text)]


def test_from_summaries_to_passages_through_a_server(harbour, tmp_path):
    """Summary hierarchy, draft, clues and retrieval; the question whose request fails is still looked for."""

    def behave(prompt, _before):
        if "passages>" in prompt:
            return Reply(text="Orla Venn, the Halden Prize, Tessamor.")
        if "시인" in prompt:
            return Reply(status=400, body=error_body("filtered"))
        if "clues" in prompt:
            return Reply(text="1. Which prize did Orla Venn win?\n2. The Halden Prize is awarded every May in")
        return Reply(text="The Halden Prize, perhaps in Tessamor.")

    with serving(behave) as server:
        completer = OpenAIReader(
            light_settings(AnswerSettings(base_url=server.url, max_retries=0), MemoragSettings()), "none"
        )
        summaries = build_summaries(harbour, completer, tmp_path, MemoragSettings())
        memory = SummaryMemory(completer, summaries, MemoragSettings())
        system = MemoragSystem("memorag", memory, retrievers(harbour)["bm25"], harbour, 3, rrf_k=60)
        english, korean = system.retrieve([ENGLISH, KOREAN])
    assert "Tessamor" in system.arrange(fill_budget(english, 64)).text
    trace = system.traces["q0"]
    assert trace.draft == "The Halden Prize, perhaps in Tessamor."
    assert trace.clues == ("Which prize did Orla Venn win?", "The Halden Prize is awarded every May in")
    assert [len(own) for own in trace.found] == [3, 3, 3]
    assert trace.usage.cost_usd == pytest.approx(2 * (50 * 0.15 + 3 * 0.60) / 1e6)
    failed = system.traces["q1"]
    assert (failed.clues, failed.error) == ((), "HTTP 400: filtered")
    assert [segment.document_id for segment in korean.segments] == list(failed.passages) == list(failed.found[0])
