"""Held-out questions put to a memory: which are asked, what is read for them, and how likely documents are."""

import pytest
import torch
from memory_fixtures import (
    DOCUMENTS,
    QUESTIONS,
    checkpoint_of,
    joined,
    louder,
    nll_token_by_token,
    slots_of,
)

from zrag_core.corpus.types import Question
from zrag_core.model.architecture.memory_tables import SLOTS
from zrag_core.model.architecture.row_table import SCALE
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.checks import probe as probing
from zrag_core.model.checks.document_likelihood import document_nll
from zrag_core.model.checks.probe import Probe, never_empty_evidence
from zrag_core.model.inference.decoder import generate


@pytest.fixture
def joint(tmp_path):
    return checkpoint_of("joint", tmp_path)


@pytest.fixture
def separated(tmp_path):
    return checkpoint_of("separated", tmp_path)


# --- which questions ------------------------------------------------------------------------------


def test_only_held_out_single_questions_with_a_findable_answer_are_asked(joint):
    others = [
        Question("train", "Where?", ("Kell",), ("d1",), split="train"),
        Question("dev", "Where?", ("Kell",), ("d1",), split="dev"),
        Question("hop", "Where?", ("Kell",), ("d1", "d2"), split="test", question_type="two_hop"),
        Question("yes", "Is it?", ("yes",), ("d1",), split="test"),
        Question("none", "Who?", (), (), split="test"),
        Question("gone", "Who?", ("Kell",), ("elsewhere",), split="test"),
    ]
    probe = Probe(joint, [*others, *QUESTIONS])
    assert {asked.question.id for asked in probe.asked} == {question.id for question in QUESTIONS}


def test_the_sample_is_fixed_by_ids_alone(joint):
    few = [asked.question.id for asked in Probe(joint, QUESTIONS, limit=4).asked]
    assert len(few) == 4
    assert [asked.question.id for asked in Probe(joint, QUESTIONS[::-1], limit=4).asked] == few
    assert [asked.question.id for asked in Probe(joint, QUESTIONS, limit=6).asked][:4] == few


# --- reading --------------------------------------------------------------------------------------


def test_the_empty_evidence_is_forbidden(joint):
    model = joint.model
    eos = model.backbone.eos_id
    seen = []

    def refuse(_module, _inputs, logits):
        seen.append(logits[:, -1].clone())
        logits[..., eos] += 1e4

    handle = model.lm.get_output_embeddings().register_forward_hook(refuse)
    try:
        query = model.backbone.encode(QUESTIONS[0].question)
        (text,) = never_empty_evidence(model, *model.document_slots([0]), [query], 12)
    finally:
        handle.remove()
    first = seen[0][0]
    first[eos] = -torch.inf
    assert len(seen) == 2, "EOS comes right after the one token that has to be written"
    assert text == model.backbone.decode([int(first.argmax())])


@torch.no_grad()
@pytest.mark.parametrize("policy", ["joint", "separated"])
def test_evidence_is_read_from_the_most_probable_span_and_greedily(policy, request):
    model = louder(request.getfixturevalue(policy).model)
    texts = ("Where was Orla Venn born?", "What does Cass Kilto keep?", "Where was Orla Venn born?")
    queries, rows = [model.backbone.encode(text) for text in texts], [0, 2, 3]
    expected = []
    for query, row in zip(queries, rows, strict=True):
        (z, spans), span = model.document_slots([row]), 0
        if policy == "separated":
            span = int(model.span_logits([query], z, spans)[0, :-1].argmax())
        prefix = slots_of(z[0], spans[0], span)
        expected += generate(model, *prefix, [query], 12)
    assert all(expected)
    assert never_empty_evidence(model, *model.document_slots(rows), queries, 12) == expected


@torch.no_grad()
def test_evidence_is_written_at_the_places_that_the_prompt_gives(separated, monkeypatch):
    model = separated.model
    queries = [model.backbone.encode(text) for text in ("Where was Orla Venn born?", "Where?")]
    prefixes, write = [], probing.generate
    monkeypatch.setattr(probing, "generate", lambda *a, **options: prefixes.append(a[1:3]) or write(*a, **options))
    seen = []
    handle = model.backbone.decoder.register_forward_pre_hook(
        lambda _module, _args, options: seen.append(options["position_ids"]), with_kwargs=True
    )
    try:
        never_empty_evidence(model, *model.document_slots([0, 1]), queries, 2)
    finally:
        handle.remove()
    _finding, first, second = seen
    places = model.prompt(*prefixes[0], queries)[2]
    assert torch.equal(first, places)
    assert torch.equal(second, places[:, -1:] + 1)


def test_texts_are_decoded_once_for_each_alpha(joint, monkeypatch):
    calls = []
    monkeypatch.setattr(probing, "never_empty_evidence", lambda *a: calls.append(len(a[3])) or ["x"] * len(a[3]))
    probe = Probe(joint, QUESTIONS)
    assert probe.free_texts([(0, 1), (0, 1), (2, 3)]) == ["x"] * 3
    probe.free_texts([(2, 3), (0, 2)])
    joint.model.alpha = 0.5
    probe.free_texts([(0, 1)])
    assert calls == [2, 1, 1]


def _spoil_all_but(model, kept):
    """Leave no number in the slots of the other documents."""
    if model.policy == "joint":
        model.z[[row for row in range(len(model.z)) if row != kept]] = torch.nan
    else:
        table = model.held.tables[SLOTS]
        owner = torch.repeat_interleave(torch.arange(len(table)), table.counts)
        table.columns[SCALE][owner != kept] = torch.nan


@torch.no_grad()
@pytest.mark.parametrize("policy", ["joint", "separated"])
def test_reading_another_document_reads_its_slots_and_none_of_the_own(policy, request):
    """What the check with shuffled slots rests on."""
    checkpoint = request.getfixturevalue(policy)
    model = louder(checkpoint.model)
    own, other = 1, 4
    before = Probe(checkpoint, QUESTIONS).free_texts([(own, own), (own, other)])
    assert before[0] != before[1]
    _spoil_all_but(model, other)
    assert model.document_slots([own])[0].isnan().any()
    assert Probe(checkpoint, QUESTIONS).free_texts([(own, other)]) == before[1:]


# --- routing in a smaller memory ------------------------------------------------------------------


@torch.no_grad()
def test_a_smaller_memory_routes_as_if_the_others_had_never_been_written(separated):
    kept = [1, 3, 4, 8]
    whole = separated.model
    z, spans = whole.document_slots()
    spans[::2] = spans[::2].clamp(max=0)  # every other document is a single span
    whole.remember(DOCUMENTS, z, spans)
    small = SeparatedMemory(whole.backbone, separated.settings.separated).eval()
    small.load_state_dict(whole.state_dict())
    small.remember([DOCUMENTS[row] for row in kept], z[kept], spans[kept])
    probe = Probe(separated, QUESTIONS)
    texts = [asked.question.question for asked in probe.asked]
    expected = small.routing_scores(texts, [asked.ids for asked in probe.asked])[:, : len(kept)]
    found = probe.scores(range(len(probe.asked)), kept)
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, probe.scores(range(len(probe.asked)))[:, kept], atol=1e-2)


@torch.no_grad()
def test_joint_routing_among_some_documents_is_a_part_of_the_whole(joint):
    probe = Probe(joint, QUESTIONS, batch_size=3)
    numbers = [4, 0, 7]
    assert torch.allclose(probe.scores(numbers, [2, 5]), probe.scores(numbers)[:, [2, 5]])
    assert probe.scores(numbers).shape == (3, len(DOCUMENTS))


# --- how likely documents are ---------------------------------------------------------------------

SENTENCES = [
    ["Orla Venn keeps bees."],
    ["Orla Venn keeps bees.", "Bram Kilto keeps bees too.", "Nobody else does."],
    # With four slots two sentences share a span.
    ["One.", "Orla Venn.", "Bees.", "Bram Kilto was born in Kell.", "Six bees.", "Numa."],
]


@torch.no_grad()
def test_document_nll_is_that_of_each_span_written_from_its_own_slots(separated, monkeypatch):
    """Oracle: every token by a forward pass of its own. Documents with fewer spans give their last one for the rest."""
    monkeypatch.setattr("zrag_core.model.checks.document_likelihood._TOKENS", 40)  # several passes
    monkeypatch.setattr("zrag_core.model.architecture.backbone._POSITIONS", 7)  # and several chunks of positions
    model = louder(separated.model)
    documents = [[model.backbone.encode(sentence) for sentence in sentences] for sentences in SENTENCES]
    z, spans = model.encode(documents)
    parts = [documents[0], documents[1], [joined(documents[2][at : at + 2]) for at in (0, 2, 4)]]
    assert [int(row.max()) + 1 for row in spans] == [len(own) for own in parts] == [1, 3, 3]
    found = document_nll(model, z, spans, documents)
    for i, own in enumerate(parts):
        for j in range(len(documents)):
            last = int(spans[j].max())
            total = sum(
                nll_token_by_token(model, model.write_prompt(*slots_of(z[j], spans[j], min(number, last))), part)
                for number, part in enumerate(own)
            )
            assert found[i, j].item() == pytest.approx(total / sum(map(len, own)), abs=1e-3)
    assert not torch.allclose(found[:, 0], found[:, 1], atol=0.01), "it matters whose slots they are"


@torch.no_grad()
def test_document_nll_of_a_joint_memory_is_of_all_its_slots(joint):
    model = joint.model
    documents = [[model.backbone.encode(sentence) for sentence in sentences] for sentences in SENTENCES]
    found = document_nll(model, *model.document_slots([0, 1]), documents)
    there = torch.ones(1, model.z.shape[1], dtype=torch.bool)
    for i, document in enumerate(documents):
        ids = joined(document)
        for j in range(2):
            total = nll_token_by_token(model, model.write_prompt(model.z[j : j + 1], there), ids)
            assert found[i, j].item() == pytest.approx(total / len(ids), abs=1e-3)
