"""Asking a memory: replies agree with the system they are made of, budgets and refusals hold, readers are labelled."""

import json
import subprocess
import sys
import unicodedata
from dataclasses import replace

import pytest

from zrag_core.answering.offline import OfflineReader
from zrag_core.answering.types import Answer
from zrag_core.corpus.types import Question
from zrag_core.errors import CheckpointError
from zrag_core.memory import LEAST_CONFIDENCE, LONGEST_QUESTION, REFUSALS, Memory, fit_least_confidence
from zrag_core.settings import DecodingSettings
from zrag_core.text import evidence_tokens

BORN = "Where was Orla Venn born?"
NOT_THERE = "Which opera did Wilma Astor compose in Paris?"
ASKED = [BORN, "한소라는 어디에서 태어났나?", "How many bees does Cass Kilto keep?", NOT_THERE]


@pytest.fixture(scope="module")
def memory(written_memory):
    return Memory.open(written_memory, threads=1)


def test_a_reply_has_evidence_and_its_place(memory):
    (reply,) = memory.ask([BORN])
    assert (reply.question, reply.error) == (BORN, None)
    assert (reply.reader, reply.model, reply.answer) == ("", "", ""), "nobody answers, so nothing is called an answer"
    assert reply.answerable
    assert reply.confidence > 0.5
    assert reply.latency_ms > 0
    best = reply.sources[0]
    assert (best.document_id, best.title, best.text) == ("d0", "Orla Venn", "Orla Venn was born in Tessamor.")
    assert (reply.routing[0].document_id, reply.routing[0].title) == ("d0", "Orla Venn")
    assert len(reply.routing) == len(memory.documents), "ten documents are ranked"


def test_a_reply_says_what_the_system_found(memory):
    """Oracle: the evidence system itself, question by question."""
    system = memory._system(False)
    for reply, found in zip(memory.ask(ASKED), system.retrieve([Question(t, t) for t in ASKED]), strict=True):
        assert reply.confidence == pytest.approx(found.confidence, abs=1e-4)
        assert reply.answerable == (found.confidence >= LEAST_CONFIDENCE)
        assert [item.document_id for item in reply.routing] == list(found.document_ids)
        if reply.answerable:
            assert [s.text for s in reply.sources] == [s.text for s in found.segments[: len(reply.sources)]]


def test_sources_are_verbatim_and_are_the_evidence(memory):
    texts = {document.id: document.text for document in memory.documents}
    for budget in (1, 5, 9, 40, 256):
        for reply in memory.ask(ASKED, budget=budget):
            assert evidence_tokens(reply.evidence) <= budget
            assert "\n".join(source.text for source in reply.sources) == reply.evidence
            assert all(texts[s.document_id][s.start : s.end] == s.text for s in reply.sources)


def test_routing_scores_are_probabilities(memory):
    for reply in memory.ask(ASKED):
        scores = [item.score for item in reply.routing]
        assert all(0 <= score <= 1 for score in scores)
        assert sum(scores) == pytest.approx(1.0, abs=1e-3), "all ten documents are among the ranked"


def test_the_order_of_questions_is_kept_and_company_changes_nothing(memory):
    together = memory.ask(ASKED)
    assert [reply.question for reply in together] == ASKED
    for reply, alone in zip(together, [memory.ask([text])[0] for text in ASKED], strict=True):
        assert (reply.answer, reply.evidence, reply.answerable) == (alone.answer, alone.evidence, alone.answerable)
    assert memory.ask([]) == []


@pytest.mark.parametrize(
    "written", ["\ufeff{}", " {}\r\n", "\u200b{}\u00ad", "wide", "apart"], ids=["mark", "ends", "zero", "wide", "apart"]
)
def test_a_question_is_cleaned_as_the_corpus_is(memory, written):
    korean = ASKED[1]
    if written == "wide":
        text, plain = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in BORN), BORN
    elif written == "apart":
        text, plain = unicodedata.normalize("NFD", korean), korean
    else:
        text, plain = written.format(BORN), BORN
    found, expected = memory.ask([text, plain])
    assert (found.question, found.evidence, found.confidence) == (plain, expected.evidence, expected.confidence)


def test_what_cannot_be_asked_is_told_beside_what_can(memory):
    empty, found, endless = memory.ask(["\u200b ", BORN, "stone " * LONGEST_QUESTION])
    assert (empty.error, empty.answerable, empty.sources) == ("the question is empty", False, ())
    assert "at most 8,000 are taken" in endless.error
    assert len(endless.question) < 100
    assert (found.error, found.notes, found.answerable) == (None, (), True)


def test_a_question_that_the_model_cannot_read_to_its_end_says_so(memory):
    (reply,) = memory.ask([BORN + " I ask because my uncle met her in a harbour town." * 12])
    (note,) = reply.notes
    assert "the model reads its first" in note
    assert reply.routing


def test_what_the_memory_does_not_hold_is_refused_in_the_questions_language(memory):
    for text, language in ((NOT_THERE, "en"), ("어느 화가가 파리의 오페라 극장을 그렸나?", "ko")):
        (reply,) = memory.ask([text])
        assert (reply.answerable, reply.answer, reply.evidence, reply.sources) == (False, REFUSALS[language], "", ())
        assert reply.confidence < 0.5
        assert (reply.reader, reply.model) == ("", "")
        assert reply.routing, "what comes nearest is still told"


@pytest.mark.parametrize(
    ("decoded", "asked", "expected"),
    [(0.0, None, LEAST_CONFIDENCE), (0.3, None, 0.3), (0.3, 0.0, 0.0), (0.0, 0.9, 0.9)],
)
def test_where_refusal_begins(written_memory, decoded, asked, expected):
    decoding = DecodingSettings(least_confidence=decoded)
    opened = Memory.open(written_memory, decoding=decoding, least_confidence=asked, threads=1)
    assert opened.decoding == decoding.model_copy(update={"least_confidence": expected})


def test_what_would_be_refused_is_looked_for_again():
    from zrag_core.model.inference.language_system import UNSURE

    assert UNSURE == LEAST_CONFIDENCE


def test_zero_never_refuses_and_one_always(written_memory):
    willing, silent = (Memory.open(written_memory, least_confidence=p, threads=1) for p in (0.0, 1.0))
    assert all(reply.answerable and reply.evidence for reply in willing.ask(ASKED))
    assert not any(reply.answerable for reply in silent.ask(ASKED))


def test_a_checkpoint_without_calibration_never_refuses(memory):
    confidence = memory.checkpoint.model.confidence
    plain = Memory(memory.checkpoint, memory.decoding, threads=1)
    kept = confidence.clone()
    try:
        confidence.zero_()
        for reply in plain.ask(ASKED):
            assert (reply.answerable, reply.confidence) == (True, None)
    finally:
        confidence.copy_(kept)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.8])
def test_a_fitted_threshold_refuses_no_more_of_what_is_held_than_it_may(memory, share):
    asked = [
        Question(document.id, text.format(document.title), (), (document.id,))
        for document in memory.documents
        for text in ("Tell me something of {}!", "{}?", "What is the price of {} in Quarn?")
    ]
    strangers = [Question("u", NOT_THERE), Question("o", NOT_THERE, (), ("elsewhere",))]
    threshold = fit_least_confidence(memory, [*asked, *strangers], most_refused=share)
    sure = [found.confidence for found in memory.retrieve(asked)]
    assert min(sure) < LEAST_CONFIDENCE < max(sure), "the questions tell nothing otherwise"
    assert sum(value < threshold for value in sure) <= share * len(sure)
    larger = min((value for value in sure if value > threshold), default=1.0)
    refused = sum(value < larger for value in sure)
    assert threshold == LEAST_CONFIDENCE or refused > share * len(sure), "the largest such threshold"
    assert fit_least_confidence(memory, strangers) is None


def test_free_evidence_is_the_models_own_words(memory):
    (reply,) = memory.ask([BORN], free=True)
    assert reply.evidence
    assert reply.sources == ()
    (verbatim,) = memory.ask([BORN])
    assert verbatim.verified
    assert verbatim.unsupported == ()
    assert verbatim.sources, "free and constrained readings do not disturb each other"


class Failing(OfflineReader):
    """A reader that cannot answer, and remembers what it was asked."""

    name, model = "openai", "gpt-test"

    def __init__(self):
        self.requests = []

    def answer(self, requests, progress=None) -> list[Answer]:
        self.requests.extend(requests)
        return [replace(answer, answer="", error="the server said no") for answer in super().answer(requests)]


def test_another_reader_is_asked_only_what_the_memory_holds_and_its_failure_is_told(memory):
    reader = Failing()
    replies = Memory(memory.checkpoint, memory.decoding, reader=reader, threads=1).ask(ASKED, budget=30)
    held = [reply for reply in replies if reply.answerable]
    assert [request.question for request in reader.requests] == [reply.question for reply in held]
    assert [request.evidence for request in reader.requests] == [reply.evidence for reply in held]
    assert {request.question: request.language for request in reader.requests}[ASKED[1]] == "ko"
    for reply in held:
        assert (reply.reader, reply.model, reply.answer) == ("openai", "gpt-test", "")
        assert reply.error == "the server said no"


def test_a_reply_is_json(memory):
    (reply,) = memory.ask([ASKED[1]])
    read = json.loads(json.dumps(reply.to_dict(), ensure_ascii=False))
    assert read["sources"][0]["document_id"] == "문서-8"
    assert read["answer"] == reply.answer
    assert set(read) == set(type(reply).__slots__)


def test_a_folder_that_is_no_checkpoint_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint here") as caught:
        Memory.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_importing_it_loads_no_torch():
    code = "import sys, zrag_core.memory; print([m for m in ('torch', 'transformers', 'openai') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "[]\n"


def test_what_no_routed_document_says_is_named(memory, monkeypatch):
    """The check reads the routed documents' texts, a sentence at a time; other documents' words are no support."""
    system = memory._system(True)
    says = "Orla Venn was born in Tessamor.\nOrla Venn was born in Paris. Cass Kilto keeps bees"
    (found,) = system.retrieve([Question("0", BORN)])
    monkeypatch.setattr(system, "retrieve", lambda questions: [replace(found, text=says, answerable=True)])
    (reply,) = memory.ask([BORN], free=True)
    assert "Orla Venn was born in Paris." in reply.unsupported
    assert "Orla Venn was born in Tessamor." not in reply.unsupported
    assert not reply.verified
    monkeypatch.setattr(system, "retrieve", lambda questions: [replace(found, text=says.split("\n")[0])])
    (reply,) = memory.ask([BORN], free=True)
    assert (reply.verified, reply.unsupported) == (True, ())
    other = replace(found, text=says, document_ids=("d1",), document_scores=found.document_scores[:1])
    monkeypatch.setattr(system, "retrieve", lambda questions: [other])
    (reply,) = memory.ask([BORN], free=True)
    assert "Orla Venn was born in Tessamor." in reply.unsupported
