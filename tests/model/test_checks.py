"""Memory checks: each can pass and can fail, and none leaves a mark on the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zrag_core.corpus.types import Document, Question
from zrag_core.model import checks, probing, reading
from zrag_core.model.backbone import create_backbone
from zrag_core.model.checkpoint import Checkpoint
from zrag_core.model.checks import run_checks
from zrag_core.model.deletion_check import deleted_leak_coverage
from zrag_core.model.joint import train_joint
from zrag_core.model.network import MemoryModel
from zrag_core.model.probing import Probe, document_nll, never_empty_evidence
from zrag_core.model.reading import generate
from zrag_core.settings import load_settings

TOWNS = "Tessamor Kell Brindle Ostrava Numa Pell Quarn Rusk Sile Tarn".split()
PEOPLE = [f"{first} {last}" for first in ("Orla", "Bram", "Cass", "Dov", "Elin") for last in ("Venn", "Kilto")]
DOCUMENTS = tuple(
    Document(f"d{n}", person, f"{person} was born in {town}. {person} keeps bees.")
    for n, (person, town) in enumerate(zip(PEOPLE, TOWNS, strict=True))
)
QUESTIONS = tuple(
    Question(f"q{n}", f"Where was {person} born?", (town,), (f"d{n}",), split="test")
    for n, (person, town) in enumerate(zip(PEOPLE, TOWNS, strict=True))
)
SMALL = {
    "backbone": {"tiny": {"hidden_size": 32, "layers": 2, "heads": 2, "vocabulary": 400}},
    "training": {"threads": 1},
    "decoding": {"max_new_tokens": 12},
}


def checkpoint_of(policy, tmp_path):
    """An untrained model with random slots."""
    memory = {"policy": policy, "slots": 4, "width": 16, "key_width": 8, "title_width": 64, "text_width": 64}
    settings = load_settings({**SMALL, "memory": memory})
    torch.manual_seed(0)
    texts = [document.contents for document in DOCUMENTS] + [question.question for question in QUESTIONS]
    model = MemoryModel(create_backbone(settings.backbone, texts, seed=0), settings.memory, len(DOCUMENTS)).eval()
    torch.nn.init.normal_(model.z)
    if policy == "separated":
        model.remember(DOCUMENTS, model.z)
    return Checkpoint("c", tmp_path, model, DOCUMENTS, settings, {})


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
            "backbone": SMALL["backbone"],
            "memory": {"policy": "joint", "slots": 2, "width": 64},
            "training": {"steps": 150, "batch_size": 8, "threads": 1, "lr_memory": 0.02, "lr_theta": 5e-3},
        }
    )
    texts = [document.contents for document in documents] + [target.query for target in targets]
    result = train_joint(documents, targets, create_backbone(settings.backbone, texts, seed=0), settings)
    return Checkpoint("c", tmp_path_factory.mktemp("c"), result.model, documents, settings, {})


def reader(monkeypatch, write):
    """Replace decoding by `write(row of Z that is read, question text)`."""

    def read(model, z, queries, max_new_tokens):
        flat = model.z.detach().flatten(1)
        rows = torch.cdist(z.detach().flatten(1), flat).argmin(1).tolist()
        return [write(row, model.backbone.decode(query)) for row, query in zip(rows, queries, strict=True)]

    monkeypatch.setattr(probing, "never_empty_evidence", read)


def from_memory(row, _question):
    """A reader that tells what stands in the document it reads."""
    return DOCUMENTS[row].text


def from_theta(_row, question):
    """A reader that knows every answer by the name in the question, whatever it reads."""
    return next(document.text for document in DOCUMENTS if document.title in question)


def route_to(monkeypatch, probe, rows):
    """Give these rows (by question number) the highest score, and the others falling ones in row order."""

    def scores(numbers, kept=None):
        kept = list(range(len(DOCUMENTS))) if kept is None else list(kept)
        return torch.tensor([[10.0 if row == rows[n] else -row / 100 for row in kept] for n in numbers])

    monkeypatch.setattr(probe, "scores", scores)


def gold_routing(monkeypatch, probe):
    route_to(monkeypatch, probe, [asked.gold[0] for asked in probe.asked])


def by_name(found):
    return {check.check_name: check for check in found}


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
        (text,) = never_empty_evidence(model, model.z[:1], [query], 12)
    finally:
        handle.remove()
    first = seen[0][0]
    first[eos] = -torch.inf
    assert len(seen) == 2, "EOS comes right after the one token that has to be written"
    assert text == model.backbone.decode([int(first.argmax())])


@pytest.mark.parametrize("policy", ["trained", "separated"])
def test_never_empty_evidence_is_plain_greedy_decoding_otherwise(policy, request):
    model = request.getfixturevalue(policy).model
    queries = [model.backbone.encode(text) for text in ("Where was Orla Venn born?", "How deep is Lake Munar?")]
    expected = generate(model, model.z[[0, 2]], queries, 12)
    assert all(expected)
    assert never_empty_evidence(model, model.z[[0, 2]], queries, 12) == expected


def test_evidence_is_read_at_the_places_that_the_prompt_gives(separated):
    model = separated.model
    queries = [model.backbone.encode(text) for text in ("Where was Orla Venn born?", "Where?")]
    seen = []
    handle = model.backbone.decoder.register_forward_pre_hook(
        lambda _module, _args, options: seen.append(options["position_ids"]), with_kwargs=True
    )
    try:
        never_empty_evidence(model, model.z[:2], queries, 2)
    finally:
        handle.remove()
    places = model.prompt(model.z[:2], queries)[2]
    assert torch.equal(seen[0], places)
    assert torch.equal(seen[1], places[:, -1:] + 1)


def test_texts_are_decoded_once_for_each_alpha(joint, monkeypatch):
    calls = []
    monkeypatch.setattr(probing, "never_empty_evidence", lambda *a: calls.append(len(a[2])) or ["x"] * len(a[2]))
    probe = Probe(joint, QUESTIONS)
    assert probe.free_texts([(0, 1), (0, 1), (2, 3)]) == ["x"] * 3
    probe.free_texts([(2, 3), (0, 2)])
    joint.model.alpha = 0.5
    probe.free_texts([(0, 1)])
    assert calls == [2, 1, 1]


# --- routing in a smaller memory ------------------------------------------------------------------


@torch.no_grad()
def test_a_smaller_memory_routes_as_if_the_others_had_never_been_written(separated):
    kept = [1, 3, 4, 8]
    whole = separated.model
    small = MemoryModel(whole.backbone, separated.settings.memory, len(kept)).eval()
    small.load_state_dict(
        {k: v for k, v in whole.state_dict().items() if not k.startswith(("z", "lexical", "freq"))}, strict=False
    )
    small.z.copy_(whole.z[kept])
    small.remember([DOCUMENTS[row] for row in kept], small.z)
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


# --- checks without questions ---------------------------------------------------------------------


@torch.no_grad()
def test_document_nll_is_that_of_running_one_sequence_token_by_token(joint, monkeypatch):
    monkeypatch.setattr(probing, "_TOKENS", 40)  # several passes, several chunks of positions
    monkeypatch.setattr(reading, "_POSITIONS", 7)
    model = joint.model
    documents = [model.backbone.encode(document.text) for document in DOCUMENTS[:2]]
    found = document_nll(model, model.z[:3], documents)
    for i, ids in enumerate(documents):
        for j in range(3):
            embeds, total = model.write_prompt(model.z[j : j + 1])[0][0], 0.0
            for token in ids:
                total -= model.lm(inputs_embeds=embeds[None]).logits[0, -1].log_softmax(-1)[token].item()
                embeds = torch.cat([embeds, model.backbone.embed(torch.tensor([token]))])
            assert found[i, j].item() == pytest.approx(total / len(ids), abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("policy", ["joint", "separated"])
def test_document_nll_is_the_loss_of_writing(policy, request):
    model = request.getfixturevalue(policy).model
    documents = [model.backbone.encode(document.text) for document in DOCUMENTS[:3]]
    found = document_nll(model, model.z[:2], documents)
    for i, ids in enumerate(documents):
        for j in range(2):
            assert found[i, j].item() == pytest.approx(model.write_loss(model.z[[j]], [ids], [ids]).item(), abs=1e-4)


def test_document_top1_counts_own_best_and_no_ties():
    own = np.ones((4, 4)) - np.eye(4)
    (check,) = checks.document_top1(own)
    assert (check.value, check.passed) == (1.0, True)
    own[0, 2] = own[0, 0]
    (check,) = checks.document_top1(own)
    assert (check.value, check.passed) == (0.75, False)
    assert checks.document_top1(np.zeros((4, 4)))[0].value == 0.0, "slots that are not read explain nothing"
    assert checks.document_top1(np.zeros((1, 1))) == []


def test_a_random_projection_takes_the_documents_away_and_is_undone(trained, monkeypatch):
    probe = Probe(trained, [])
    weight = trained.model.projection.weight
    before = weight.detach().clone()
    assert checks.document_top1(checks.confusion(probe))[0].passed
    (check,) = checks.projection_random_top1(probe)
    assert check.value <= 0.6, "five documents: chance is 0.2"
    assert torch.equal(weight, before)

    seen = []

    def fail(_probe):
        seen.append(weight.detach().clone())
        raise RuntimeError("in the middle")

    monkeypatch.setattr(checks, "confusion", fail)
    with pytest.raises(RuntimeError):
        checks.projection_random_top1(probe)
    assert seen[0].std().item() == pytest.approx(before.std().item(), rel=0.1)
    assert not torch.equal(seen[0], before)
    assert torch.equal(weight, before)


def test_reconstruction_compares_each_document_with_what_its_own_slots_say(joint, monkeypatch):
    probe = Probe(joint, [], batch_size=3)

    def rebuild(model, z, max_new_tokens):
        rows = torch.cdist(z.flatten(1), model.z.flatten(1)).argmin(1).tolist()
        return [DOCUMENTS[row].text for row in rows]

    monkeypatch.setattr(checks, "reconstruct", rebuild)
    (check,) = checks.reconstruction_rouge_l(probe)
    assert (check.value, check.passed) == (1.0, True)
    monkeypatch.setattr(checks, "reconstruct", lambda model, z, n: ["nothing of it"] * len(z))
    (check,) = checks.reconstruction_rouge_l(probe)
    assert (check.value, check.passed) == (0.0, False)


def test_long_documents_are_judged_by_their_beginning(joint, monkeypatch):
    monkeypatch.setattr(checks, "_DOCUMENT_TOKENS", 5)
    asked = []
    monkeypatch.setattr(checks, "reconstruct", lambda model, z, n: asked.append(n) or ["x"] * len(z))
    checks.reconstruction_rouge_l(Probe(joint, []))
    assert asked == [5]


# --- checks with questions ------------------------------------------------------------------------


def test_shuffled_slots_tell_memory_from_theta(joint, monkeypatch):
    probe = Probe(joint, QUESTIONS)
    gold_routing(monkeypatch, probe)
    reader(monkeypatch, from_memory)
    found = by_name(checks.z_shuffle_coverage(probe))
    assert (found["z_shuffle_coverage"].value, found["z_shuffle_coverage"].passed) == (0.0, True)
    assert found["free_coverage"].value == 1.0
    probe = Probe(joint, QUESTIONS)
    gold_routing(monkeypatch, probe)
    reader(monkeypatch, from_theta)
    found = by_name(checks.z_shuffle_coverage(probe))
    assert (found["z_shuffle_coverage"].value, found["z_shuffle_coverage"].passed) == (1.0, False)
    assert found["free_coverage"].value == 1.0


def shuffled_reads(probe, monkeypatch):
    """Row that the check lets each question read instead of its own."""
    reads = []
    monkeypatch.setattr(probe, "free_texts", lambda pairs: reads.append(pairs) or [""] * len(pairs))
    checks.z_shuffle_coverage(probe)
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


def test_oracle_routing_reads_the_gold_document_whatever_routing_says(joint, monkeypatch):
    probe = Probe(joint, QUESTIONS)
    route_to(monkeypatch, probe, [(asked.gold[0] + 1) % 10 for asked in probe.asked])
    reader(monkeypatch, from_memory)
    (check,) = checks.oracle_routing_coverage(probe)
    assert (check.value, check.passed) == (1.0, True)
    assert by_name(checks.z_shuffle_coverage(probe))["free_coverage"].value == 0.0
    reader(monkeypatch, lambda row, question: "I do not know.")
    (check,) = checks.oracle_routing_coverage(Probe(joint, QUESTIONS))
    assert (check.value, check.passed) == (0.0, False)


def test_the_alpha_sweep_reads_at_every_alpha_and_puts_it_back(joint, monkeypatch):
    model = joint.model
    model.alpha = 0.9
    reader(monkeypatch, lambda row, question: DOCUMENTS[row].text if model.alpha >= 0.75 else "")
    probe = Probe(joint, QUESTIONS)
    gold_routing(monkeypatch, probe)
    found = {check.parameter: check.value for check in checks.alpha_sweep(probe)}
    assert found == {alpha: float(alpha >= 0.75) for alpha in checks.ALPHAS}
    assert model.alpha == 0.9

    def fail(row, question):
        raise RuntimeError("in the middle")

    reader(monkeypatch, fail)
    with pytest.raises(RuntimeError):
        checks.alpha_sweep(Probe(joint, QUESTIONS))
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
    found = checks.coverage_by_documents(probe)
    assert [(check.parameter, check.value) for check in found] == [(2, 1.0), (5, 1.0), (10, 0.0)]
    assert [len(kept) for kept in kept_rows] == [2, 5, 10]
    assert kept_rows[0] < kept_rows[1] < kept_rows[2]
    assert asked_numbers[0] == asked_numbers[1] == asked_numbers[2] != []
    assert all(kept_rows[0].issuperset(probe.asked[number].gold) for number in asked_numbers[0])


def test_the_smallest_memory_holds_what_is_asked_first(joint, monkeypatch):
    probe = Probe(joint, QUESTIONS[3:5])
    reader(monkeypatch, from_memory)
    gold_routing(monkeypatch, probe)
    assert [(check.parameter, check.value) for check in checks.coverage_by_documents(probe)] == [
        (2, 1.0),
        (5, 1.0),
        (10, 1.0),
    ]


def test_deleted_facts_that_are_still_told_fail_the_deletion_check(joint, monkeypatch):
    reader(monkeypatch, from_theta)
    found = by_name(deleted_leak_coverage(Probe(joint, QUESTIONS)))
    leak, floor = found["deleted_leak_coverage"], found["deleted_floor_coverage"]
    assert (leak.value, floor.value) == (1.0, 0.0)
    assert leak.threshold == pytest.approx(0.05)
    assert leak.passed is False


def test_a_memory_that_forgets_passes_the_deletion_check(joint, monkeypatch):
    reads = []
    reader(monkeypatch, lambda row, question: reads.append((row, question)) or from_memory(row, question))
    found = by_name(deleted_leak_coverage(Probe(joint, QUESTIONS)))
    assert (found["deleted_leak_coverage"].value, found["deleted_leak_coverage"].passed) == (0.0, True)
    assert len(reads) == len(QUESTIONS), "every document is deleted once"
    assert all(DOCUMENTS[row].title not in question for row, question in reads)


def test_a_fifth_is_deleted_at_a_time_and_routing_never_sees_it(joint, monkeypatch):
    probe = Probe(joint, QUESTIONS)
    scores, deleted = probe.scores, []

    def record(numbers, kept=None):
        gone = set(range(len(DOCUMENTS))) - set(kept)
        assert gone == {probe.asked[number].gold[0] for number in numbers}
        deleted.append(gone)
        return scores(numbers, kept)

    monkeypatch.setattr(probe, "scores", record)
    reader(monkeypatch, from_memory)
    deleted_leak_coverage(probe)
    assert [len(gone) for gone in deleted] == [2] * 5
    assert set.union(*deleted) == set(range(len(DOCUMENTS)))


def test_what_another_document_says_is_no_leak(joint, monkeypatch):
    """A fact that stands in two documents is not gone with one of them."""
    twice = tuple(
        replace(document, text=f"{DOCUMENTS[n - 1].title} was born in {TOWNS[n - 1]}. {document.text}")
        for n, document in enumerate(DOCUMENTS)
    )
    probe = Probe(replace(joint, documents=twice), QUESTIONS)
    # Routing prefers the documents that repeat the fact.
    monkeypatch.setattr(
        probe,
        "scores",
        lambda numbers, kept: torch.tensor(
            [[float(row == (probe.asked[n].gold[0] + 1) % 10) for row in kept] for n in numbers]
        ),
    )
    reader(monkeypatch, lambda row, question: twice[row].text)
    found = by_name(deleted_leak_coverage(probe))
    assert found["deleted_leak_coverage"].value == 0.0


def test_what_guessing_covers_is_no_leak(joint, monkeypatch):
    reader(monkeypatch, lambda row, question: " ".join(TOWNS))  # says every town there is
    found = by_name(deleted_leak_coverage(Probe(joint, QUESTIONS)))
    leak, floor = found["deleted_leak_coverage"], found["deleted_floor_coverage"]
    assert (leak.value, floor.value, leak.passed) == (1.0, 1.0, True)
    assert leak.threshold == pytest.approx(1.05)


def test_the_guessing_floor_is_of_questions_alike(joint, monkeypatch):
    """Guesses at towns say nothing on how well ages are guessed."""
    ages = [
        Question(f"a{n}", f"How many bees does {person} own?", (str(100 + n),), (f"d{n}",), split="test")
        for n, person in enumerate(PEOPLE)
    ]
    reader(monkeypatch, lambda row, question: " ".join(TOWNS) if "born" in question else "none at all")
    monkeypatch.setattr("zrag_core.model.deletion_check._ALIKE", 4)
    found = by_name(deleted_leak_coverage(Probe(joint, [*QUESTIONS, *ages])))
    assert found["deleted_floor_coverage"].value == found["deleted_leak_coverage"].value == 0.5


def test_alike_questions_are_so_without_the_names(joint, monkeypatch):
    """Titles that share most of their words do not make a question about towns one about ages."""
    families = ("Old Mill Road House", "Green Marsh Lane Farm")
    documents = tuple(
        Document(f"d{n}", f"{families[n % 2]} {n}", f"It stands in {town}.") for n, town in enumerate(TOWNS)
    )
    towns = [
        Question(f"t{n}", f"{document.title} town?", (town,), (document.id,), split="test")
        for n, (document, town) in enumerate(zip(documents, TOWNS, strict=True))
    ]
    ages = [
        Question(f"a{n}", f"{document.title} age?", (str(100 + n),), (document.id,), split="test")
        for n, document in enumerate(documents)
    ]
    reader(monkeypatch, lambda row, question: " ".join(TOWNS) if "town" in question else "unknown")
    monkeypatch.setattr("zrag_core.model.deletion_check._ALIKE", 3)
    found = by_name(deleted_leak_coverage(Probe(replace(joint, documents=documents), [*towns, *ages])))
    assert found["deleted_floor_coverage"].value == 0.5


# --- slots ----------------------------------------------------------------------------------------


def test_fewer_slots_are_encoded_anew_and_the_routed_documents_are_read(separated, monkeypatch):
    model = separated.model
    probe = Probe(separated, QUESTIONS, batch_size=4)
    gold_routing(monkeypatch, probe)
    with torch.no_grad():
        expected = {s: model.encode([model.backbone.encode(d.text) for d in DOCUMENTS], slots=s) for s in (1, 2, 4)}

    def read(_model, z, queries, max_new_tokens):
        slots = expected[z.shape[1]].flatten(1)
        rows = torch.cdist(z.flatten(1), slots)
        assert rows.min(1).values.max() < 1e-3
        # With one slot too little is left to tell them apart.
        return [DOCUMENTS[row].text if z.shape[1] > 1 else "" for row in rows.argmin(1).tolist()]

    monkeypatch.setattr(probing, "never_empty_evidence", read)
    found = [(check.parameter, check.value) for check in checks.coverage_by_slots(probe)]
    assert found == [(1, 0.0), (2, 1.0), (4, 1.0)]


def test_a_joint_memory_has_no_encoder_to_try_fewer_slots_with(joint):
    assert checks.coverage_by_slots(Probe(joint, QUESTIONS)) == []


# --- all together ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["joint", "separated"])
def test_an_untrained_memory_fails_where_it_has_to_and_is_left_as_it_was(policy, request):
    checkpoint = request.getfixturevalue(policy)
    before = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}
    lines = []
    report = run_checks(checkpoint, QUESTIONS, batch_size=4, on_check=lines.append)
    found = by_name(report.checks)
    assert report.nll.shape == (10, 10)
    assert report.n_questions == len(QUESTIONS)
    assert found["oracle_routing_coverage"].passed is False
    assert found["reconstruction_rouge_l"].passed is False
    assert found["document_top1"].passed is False
    assert found["projection_random_top1"].passed is not None
    assert ("coverage_by_slots" in found) == (policy == "separated")
    assert all(0 <= check.value <= 1 for check in report.checks)
    assert [line.split()[0] for line in lines] == [str(n + 1) for n in range(9)]
    after = checkpoint.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert checkpoint.model.alpha == 1.0


def test_without_held_out_questions_the_slots_are_checked_alone(joint):
    report = run_checks(joint, [])
    assert set(by_name(report.checks)) == {"document_top1", "projection_random_top1", "reconstruction_rouge_l"}
    assert report.n_questions == 0
