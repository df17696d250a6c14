"""Memory checks: each can pass and can fail, and none leaves a mark on the model."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from memory_fixtures import (
    DOCUMENTS,
    PEOPLE,
    QUESTIONS,
    TINY,
    by_name,
    checkpoint_of,
    everything_of,
    from_memory,
    from_theta,
    gold_routing,
    joined,
    nll_token_by_token,
    reader,
    route_to,
    row_of,
    slots_of,
)

from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.checks import probe as probing
from zrag_core.model.checks import reconstruction, sweeps
from zrag_core.model.checks.catalog import MEMORY_CHECKS, UPDATE_CHECKS
from zrag_core.model.checks.fixed_routing import oracle_routing_coverage, z_shuffle_coverage
from zrag_core.model.checks.probe import Probe
from zrag_core.model.checks.reconstruction import document_top1, projection_random_top1, reconstruction_rouge_l
from zrag_core.model.checks.runner import run_checks
from zrag_core.model.checks.sweeps import alpha_sweep, coverage_by_documents, coverage_by_slots
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.model.training.joint_training import train_joint
from zrag_core.settings import load_settings


@pytest.fixture
def joint(tmp_path):
    return checkpoint_of("joint", tmp_path)


@pytest.fixture
def separated(tmp_path):
    return checkpoint_of("separated", tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, documents, targets):
    """A joint memory of five documents, trained until its slots matter."""
    settings = load_settings(
        {
            "backbone": TINY,
            "memory": {"policy": "joint"},
            "joint": {"slots": 2, "width": 64, "steps": 150, "batch_size": 8, "lr_memory": 0.02, "lr_theta": 5e-3},
        }
    )
    texts = [document.contents for document in documents] + [target.query for target in targets]
    result = train_joint(documents, targets, create_backbone(settings.backbone, texts, seed=0), settings)
    return Checkpoint("c", tmp_path_factory.mktemp("c"), result.model, documents, settings, {})


# --- checks without questions ---------------------------------------------------------------------


def test_document_top1_counts_own_best_and_no_ties():
    def top1(nll):
        return document_top1(SimpleNamespace(nll=nll))

    own = np.ones((4, 4)) - np.eye(4)
    (check,) = top1(own)
    assert (check.value, check.passed) == (1.0, True)
    own[0, 2] = own[0, 0]
    (check,) = top1(own)
    assert (check.value, check.passed) == (0.75, False)
    assert top1(np.zeros((4, 4)))[0].value == 0.0, "slots that are not read explain nothing"
    assert top1(np.zeros((1, 1))) == []


def test_a_random_projection_takes_the_documents_away_and_is_undone(trained, monkeypatch):
    probe = Probe(trained, [])
    weight = trained.model.projection.weight
    before = weight.detach().clone()
    assert document_top1(probe)[0].passed
    (check,) = projection_random_top1(probe)
    assert check.value <= 0.6, "five documents: chance is 0.2"
    assert (check.threshold, check.passed) == (pytest.approx(0.8), True)
    assert torch.equal(weight, before)

    seen = []

    def fail(_probe):
        seen.append(weight.detach().clone())
        raise RuntimeError("in the middle")

    monkeypatch.setattr(Probe, "confusion", fail)
    with pytest.raises(RuntimeError):
        projection_random_top1(probe)
    assert seen[0].std().item() == pytest.approx(before.std().item(), rel=0.1)
    assert not torch.equal(seen[0], before)
    assert torch.equal(weight, before)


def test_of_few_documents_chance_alone_is_no_verdict(trained, monkeypatch):
    for documents, right, verdict in ((2, 2, []), (4, 4, []), (10, 4, [True]), (10, 5, [False]), (48, 9, [True])):
        nll = np.ones((documents, documents))
        nll[range(right), range(right)] = 0.0
        monkeypatch.setattr(Probe, "sample", list(range(documents)))
        monkeypatch.setattr(Probe, "confusion", lambda _, nll=nll: nll)
        assert [check.passed for check in projection_random_top1(Probe(trained, []))] == verdict


@pytest.mark.parametrize("policy", ["joint", "separated"])
def test_reconstruction_compares_each_document_with_what_its_own_slots_say(policy, request, monkeypatch):
    probe = Probe(request.getfixturevalue(policy), [])

    def rebuild(model, z, spans, max_new_tokens):
        return DOCUMENTS[row_of(model, z)].text

    monkeypatch.setattr(reconstruction, "reconstruct", rebuild)
    (check,) = reconstruction_rouge_l(probe)
    assert (check.value, check.passed) == (1.0, True)
    monkeypatch.setattr(reconstruction, "reconstruct", lambda *_: "nothing of it")
    (check,) = reconstruction_rouge_l(probe)
    assert (check.value, check.passed) == (0.0, False)


@pytest.mark.parametrize("policy", ["joint", "separated"])
def test_there_is_room_to_rebuild_the_longest_span_and_its_end(policy, request, monkeypatch):
    probe = Probe(request.getfixturevalue(policy), [])
    encode, asked = probe.model.backbone.encode, []
    monkeypatch.setattr(reconstruction, "reconstruct", lambda model, z, spans, n: asked.append(n) or "x")
    reconstruction_rouge_l(probe)
    spans = [
        [document.text] if policy == "joint" else [part + "." for part in document.text.removesuffix(".").split(". ")]
        for document in probe.documents
    ]
    assert sorted(asked) == sorted(1 + max(len(encode(span)) for span in own) for own in spans)


@pytest.mark.parametrize("policy", ["joint", "separated"])
def test_long_documents_are_judged_by_their_beginning(policy, request, monkeypatch):
    """A memory that holds every word of them is not judged worse for what comes after the beginning."""
    probe = Probe(request.getfixturevalue(policy), [])
    first = [probe.model.backbone.encode(f"{document.title} was born in") for document in DOCUMENTS]
    monkeypatch.setattr(probe.model, "opening_tokens", max(map(len, first)))

    def rebuild(model, z, spans, max_new_tokens):
        row = row_of(model, z)
        if policy == "joint":
            return model.backbone.decode(model.backbone.encode(DOCUMENTS[row].text, max_new_tokens))
        sentences = sentence_ids(model.backbone, DOCUMENTS[row].text)
        return " ".join(model.backbone.decode(sentences[number]) for number in sorted(set(spans.tolist()) - {-1}))

    monkeypatch.setattr(reconstruction, "reconstruct", rebuild)
    (check,) = reconstruction_rouge_l(probe)
    assert check.value > 0.9, "there may be a word more than was compared"


@torch.no_grad()
def test_the_beginning_of_a_document_is_explained_by_the_slots_that_keep_it(separated, monkeypatch):
    """Three sentences of the whole document share a span, and those of its beginning are in the same."""
    sentences = [f"{person} keeps {n} bees." for n, person in enumerate(PEOPLE)]
    long = Document("d0", "Bees", " ".join(sentences))
    model, encode = separated.model, separated.model.backbone.encode
    ids = [encode(sentence) for sentence in sentences]
    z, spans = model.encode([ids])
    assert sorted(set(spans[0].tolist())) == [0, 1, 2, 3]
    model.remember([long], z, spans)
    monkeypatch.setattr(model, "opening_tokens", sum(map(len, ids[:6])))
    found = Probe(replace(separated, documents=(long,)), []).confusion()
    total = sum(
        nll_token_by_token(model, model.write_prompt(*slots_of(z[0], spans[0], number)), joined(part))
        for number, part in ((0, ids[:3]), (1, ids[3:6]))
    )
    assert found.item() == pytest.approx(total / sum(map(len, ids[:6])), abs=1e-3)


# --- checks with questions ------------------------------------------------------------------------


def test_shuffled_slots_tell_memory_from_theta(joint, monkeypatch):
    probe = Probe(joint, QUESTIONS)
    gold_routing(monkeypatch, probe)
    reader(monkeypatch, from_memory)
    found = by_name(z_shuffle_coverage(probe))
    assert (found["z_shuffle_coverage"].value, found["z_shuffle_coverage"].passed) == (0.0, True)
    assert found["free_coverage"].value == 1.0
    probe = Probe(joint, QUESTIONS)
    gold_routing(monkeypatch, probe)
    reader(monkeypatch, from_theta)
    found = by_name(z_shuffle_coverage(probe))
    assert (found["z_shuffle_coverage"].value, found["z_shuffle_coverage"].passed) == (1.0, False)
    assert found["free_coverage"].value == 1.0


@torch.no_grad()
def test_what_is_read_under_the_shuffle_are_slots_of_another_document(separated, monkeypatch):
    """Down to the prefix: the span that the question finds in the other document, and nothing else."""
    model = separated.model
    probe = Probe(separated, QUESTIONS, batch_size=4)
    gold_routing(monkeypatch, probe)
    seen = {}

    def record(_model, z, used, queries, *_length, min_new_tokens):
        for slots, there, query in zip(z, used, queries, strict=True):
            seen.setdefault(tuple(query), []).append(slots[there])
        return ["x"] * len(queries)

    monkeypatch.setattr(probing, "generate", record)
    z_shuffle_coverage(probe)
    assert len(seen) == len(QUESTIONS)
    stand_ins = []
    for asked in probe.asked:
        own, other = (_found_in(model, slots, asked.ids) for slots in seen[tuple(asked.ids)])
        assert own == asked.gold[0] != other
        stand_ins.append(other)
    assert sorted(stand_ins) == list(range(len(DOCUMENTS)))


def _found_in(model, slots, query):
    """The document whose most probable span for a query consists of `slots` [p, d]."""
    rows = []
    for row in range(model.n_documents):
        z, spans = model.document_slots([row])
        best = int(model.span_logits([query], z, spans)[0, :-1].argmax())
        if torch.equal(slots_of(z[0], spans[0], best)[0][0], slots):
            rows.append(row)
    (row,) = rows
    return row


def shuffled_reads(probe, monkeypatch):
    """Row that the check lets each question read instead of its own."""
    reads = []
    monkeypatch.setattr(probe, "free_texts", lambda pairs: reads.append(pairs) or [""] * len(pairs))
    z_shuffle_coverage(probe)
    return dict(reads[0]), dict(reads[1])


def test_the_shuffle_is_a_derangement(joint, monkeypatch):
    probe = Probe(joint, QUESTIONS)
    gold_routing(monkeypatch, probe)
    true, other = shuffled_reads(probe, monkeypatch)
    assert len(true) == len(QUESTIONS)
    assert all(true[number] != other[number] for number in true)
    assert sorted(other.values()) == sorted(true.values()), "every document stands in for exactly one other"


def test_a_document_that_says_the_answer_itself_does_not_stand_in(joint, monkeypatch):
    everywhere = Question("bees", "What does Orla Venn keep?", ("bees",), ("d0",), split="test")
    born = QUESTIONS[0]
    probe = Probe(joint, [everywhere, born])
    gold_routing(monkeypatch, probe)
    _, plain = shuffled_reads(probe, monkeypatch)
    numbers = {asked.question.id: number for number, asked in enumerate(probe.asked)}
    assert numbers["bees"] not in plain, "all documents say it, so nothing can be shown"
    stand_in = plain[numbers["q0"]]
    told = list(DOCUMENTS)
    told[stand_in] = Document(f"d{stand_in}", "Note", "Tessamor is where Orla Venn was born.")
    monkeypatch.setattr(probe, "documents", tuple(told))
    _, stepped = shuffled_reads(probe, monkeypatch)
    assert stepped[numbers["q0"]] not in (stand_in, 0)


def test_nothing_that_could_hold_the_answer_stands_in(joint, monkeypatch):
    """Neither the document that was read by mistake, nor a gold one that words the answer otherwise."""
    asked = Question("q", "Where was Orla Venn born?", ("a far town",), ("d0", "d1"), split="test")
    for routed in range(2, len(DOCUMENTS)):
        probe = Probe(joint, [asked])
        route_to(monkeypatch, probe, [routed])
        true, other = shuffled_reads(probe, monkeypatch)
        assert true == {0: routed}
        assert other[0] not in (0, 1, routed)


@pytest.mark.parametrize(("wrong_reads", "passes"), [(0.0, True), (0.7, False)])
def test_joint_training_that_does_not_always_read_the_right_document_fails_the_shuffle(wrong_reads, passes, tmp_path):
    """No stand-ins: theta learned the answers under the questions, or under the slots."""
    training = {
        "slots": 2,
        "width": 64,
        "steps": 160,
        "batch_size": 16,
        "lr_memory": 0.02,
        "lr_theta": 5e-3,
        "self_study": 0.2,
    }
    settings = load_settings(
        {
            "backbone": TINY,
            "memory": {"policy": "joint"},
            "joint": {**training, "reconstruction_weight": 0, "wrong_reads": wrong_reads},
            "decoding": {"max_new_tokens": 16},
        }
    )
    asked = tuple(
        replace(question, split="train", evidence=f"{person} was born in {question.golden_answers[0]}.")
        for person, question in zip(PEOPLE, QUESTIONS, strict=True)
    )
    targets = build_targets(Corpus("people", DOCUMENTS, asked), settings.targets, 0)
    texts = [document.contents for document in DOCUMENTS] + [question.question for question in asked]
    result = train_joint(DOCUMENTS, targets, create_backbone(settings.backbone, texts, seed=0), settings)
    probe = Probe(Checkpoint("c", tmp_path, result.model, DOCUMENTS, settings, {}), QUESTIONS)
    found = by_name(z_shuffle_coverage(probe))
    assert found["free_coverage"].value >= 0.3
    assert found["z_shuffle_coverage"].passed is passes


def test_oracle_routing_reads_the_gold_document_whatever_routing_says(joint, monkeypatch):
    probe = Probe(joint, QUESTIONS)
    route_to(monkeypatch, probe, [(asked.gold[0] + 1) % 10 for asked in probe.asked])
    reader(monkeypatch, from_memory)
    (check,) = oracle_routing_coverage(probe)
    assert (check.value, check.passed) == (1.0, True)
    assert by_name(z_shuffle_coverage(probe))["free_coverage"].value == 0.0
    reader(monkeypatch, lambda row, question: "I do not know.")
    (check,) = oracle_routing_coverage(Probe(joint, QUESTIONS))
    assert (check.value, check.passed) == (0.0, False)


def test_the_alpha_sweep_reads_at_every_alpha_and_puts_it_back(joint, monkeypatch):
    model = joint.model
    model.alpha = 0.9
    reader(monkeypatch, lambda row, question: DOCUMENTS[row].text if model.alpha >= 0.75 else "")
    probe = Probe(joint, QUESTIONS)
    gold_routing(monkeypatch, probe)
    found = {check.parameter: check.value for check in alpha_sweep(probe)}
    assert found == {alpha: float(alpha >= 0.75) for alpha in sweeps.ALPHAS}
    assert model.alpha == 0.9

    def fail(row, question):
        raise RuntimeError("in the middle")

    reader(monkeypatch, fail)
    with pytest.raises(RuntimeError):
        alpha_sweep(Probe(joint, QUESTIONS))
    assert model.alpha == 0.9


def test_memories_by_size_are_nested_and_hold_what_is_asked(joint, monkeypatch):
    probe = Probe(joint, QUESTIONS)
    kept_rows, asked_numbers = [], []

    def scores(numbers, kept=None):
        kept_rows.append(set(kept))
        asked_numbers.append(list(numbers))
        gold = [probe.asked[number].gold[0] for number in numbers]
        # Once more than half of the documents are there, routing goes wrong.
        return torch.tensor([[float((row == g) == (len(kept) <= 5)) for row in kept] for g in gold])

    monkeypatch.setattr(probe, "scores", scores)
    reader(monkeypatch, from_memory)
    found = coverage_by_documents(probe)
    assert [(check.parameter, check.value) for check in found] == [(2, 1.0), (5, 1.0), (10, 0.0)]
    assert [len(kept) for kept in kept_rows] == [2, 5, 10]
    assert kept_rows[0] < kept_rows[1] < kept_rows[2]
    assert asked_numbers[0] == asked_numbers[1] == asked_numbers[2] != []
    assert all(kept_rows[0].issuperset(probe.asked[number].gold) for number in asked_numbers[0])


def test_the_smallest_memory_holds_what_is_asked_first(joint, monkeypatch):
    probe = Probe(joint, QUESTIONS[3:5])
    reader(monkeypatch, from_memory)
    gold_routing(monkeypatch, probe)
    assert [(check.parameter, check.value) for check in coverage_by_documents(probe)] == [
        (2, 1.0),
        (5, 1.0),
        (10, 1.0),
    ]


# --- slots ----------------------------------------------------------------------------------------


def test_fewer_slots_are_encoded_anew_and_the_routed_documents_are_read(separated, monkeypatch):
    model = separated.model
    probe = Probe(separated, QUESTIONS, batch_size=4)
    gold_routing(monkeypatch, probe)
    sentences = [sentence_ids(model.backbone, document.text) for document in DOCUMENTS]
    with torch.no_grad():
        expected = {n: model.encode(sentences, slots=n) for n in (1, 2, 4)}

    def read(_model, z, spans, queries, max_new_tokens):
        slots, numbers = expected[z.shape[1]]
        distances = torch.cdist(z.flatten(1), slots.flatten(1))
        assert distances.min(1).values.max() < 1e-3
        rows = distances.argmin(1)
        assert torch.equal(spans.long(), numbers[rows])
        # With one slot too little is left to tell them apart.
        return [DOCUMENTS[row].text if z.shape[1] > 1 else "" for row in rows.tolist()]

    monkeypatch.setattr(probing, "never_empty_evidence", read)
    found = [(check.parameter, check.value) for check in coverage_by_slots(probe)]
    assert found == [(1, 0.0), (2, 1.0), (4, 1.0)]


def test_a_joint_memory_has_no_encoder_to_try_fewer_slots_with(joint):
    assert coverage_by_slots(Probe(joint, QUESTIONS)) == []


# --- all together ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["joint", "separated"])
def test_an_untrained_memory_fails_where_it_has_to_and_is_left_as_it_was(policy, request):
    checkpoint = request.getfixturevalue(policy)
    before = {name: value.clone() for name, value in everything_of(checkpoint.model).items()}
    lines = []
    probe = Probe(checkpoint, QUESTIONS, batch_size=4)
    checks = run_checks(MEMORY_CHECKS, probe, lines.append)
    found = by_name(checks)
    assert probe.nll.shape == (10, 10)
    assert len(probe.asked) == len(QUESTIONS)
    assert found["oracle_routing_coverage"].passed is False
    assert found["reconstruction_rouge_l"].passed is False
    assert found["document_top1"].passed is False
    assert found["projection_random_top1"].passed is not None
    assert ("coverage_by_slots" in found) == (policy == "separated")
    assert all(0 <= check.value <= 1 for check in checks)
    assert [line.split()[0] for line in lines] == [str(n + 1) for n in range(10)]
    after = everything_of(checkpoint.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert checkpoint.model.alpha == 1.0


def test_without_held_out_questions_the_slots_are_checked_alone(joint):
    found = run_checks(MEMORY_CHECKS, Probe(joint, []))
    assert set(by_name(found)) == {"document_top1", "projection_random_top1", "reconstruction_rouge_l"}


@pytest.mark.parametrize("check", [*MEMORY_CHECKS.values(), *UPDATE_CHECKS.values()], ids=lambda check: check.name)
def test_every_registered_check_has_its_function(check):
    assert check.function().__module__ == check.module
    assert check.function().__name__ == check.name
