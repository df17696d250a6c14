from collections import Counter
from dataclasses import replace

import pytest
import torch

from zrag_core.corpus.types import Document, EvidenceTarget
from zrag_core.errors import CorpusError
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.architecture.spans import whole_document
from zrag_core.model.training.examples import (
    build_training_set,
    mask_query,
    rows_read,
    sample_reconstruction,
    sample_self_study,
)
from zrag_core.model.training.joint_training import (
    evaluation_loss,
    initialise,
    schedule,
    train_joint,
    training_fingerprint,
)
from zrag_core.model.training.progress import TrainingHooks
from zrag_core.settings import JointSettings, MemorySettings, load_settings


def _backbone(settings, documents, targets):
    texts = [document.contents for document in documents] + [target.query for target in targets]
    return create_backbone(settings.backbone, texts, seed=0)


def _with(settings, **training):
    return settings.model_copy(update={"joint": settings.joint.model_copy(update=training)})


class _StopError(Exception):
    pass


@pytest.mark.parametrize("degraded", [{}, {"query_mask": 0.5, "wrong_reads": 0.5}])
def test_a_resumed_run_equals_one_that_was_never_stopped(degraded, settings, documents, targets, tmp_path):
    settings = _with(settings, **degraded)
    whole = train_joint(documents, targets, _backbone(settings, documents, targets), settings)

    def stop(progress):
        if progress.step == 5:
            raise _StopError

    arguments = (documents, targets, _backbone(settings, documents, targets), settings)
    with pytest.raises(_StopError):
        train_joint(*arguments, hooks=TrainingHooks(state_folder=tmp_path / "state", on_progress=stop))
    resumed = train_joint(
        documents,
        targets,
        _backbone(settings, documents, targets),
        settings,
        hooks=TrainingHooks(state_folder=tmp_path / "state"),
    )
    assert resumed.resumed_from == 3
    expected, got = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_the_state_of_another_run_is_not_resumed(settings, documents, targets, tmp_path):
    train_joint(
        documents,
        targets,
        _backbone(settings, documents, targets),
        settings,
        hooks=TrainingHooks(state_folder=tmp_path / "s"),
    )
    other = _with(settings, lr_theta=1e-4)
    result = train_joint(
        documents,
        targets,
        _backbone(settings, documents, targets),
        other,
        hooks=TrainingHooks(state_folder=tmp_path / "s"),
    )
    assert result.resumed_from == 0


def test_joint_training_makes_a_joint_model_whatever_the_policy_says(settings, documents, targets):
    # Beside a separated memory, which needs slots of its own number, the joint one has its own shape.
    shape = settings.separated.model_copy(update={"slots": 7, "width": 81})
    chosen = settings.model_copy(update={"memory": MemorySettings(policy="separated"), "separated": shape})
    result = train_joint(documents, targets, _backbone(settings, documents, targets), chosen)
    same = train_joint(documents, targets, _backbone(settings, documents, targets), settings)
    assert result.model.policy == "joint"
    assert torch.equal(result.model.z, same.model.z)


def test_training_learns_to_read_and_to_route(settings, documents, targets):
    longer = _with(settings, steps=60, batch_size=8, lr_theta=5e-3)
    losses = []
    backbone = _backbone(settings, documents, targets)
    theta = backbone.lm.model.layers[0].self_attn.q_proj.weight
    theta_before = theta.detach().clone()
    train_joint(
        documents, targets, backbone, longer, hooks=TrainingHooks(on_progress=lambda p: losses.append(p.losses))
    )
    assert losses[-1]["evidence"] < 0.5 * losses[0]["evidence"]
    assert losses[-1]["reconstruction"] < 0.8 * losses[0]["reconstruction"]
    assert losses[-1]["routing"] < 0.1
    assert not torch.equal(theta, theta_before)


def test_the_router_alone_leaves_the_reader_untouched(settings, documents, targets):
    alone = _with(settings, evidence_weight=0.0, reconstruction_weight=0.0)
    backbone = _backbone(settings, documents, targets)
    before = initialise(backbone, settings.joint, documents, seed=settings.joint.seed).head_state()
    result = train_joint(documents, targets, backbone, alone)
    after = result.model.head_state()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert set(result.losses) == {"routing"}
    assert {"router.term_weight", "router.context.weight"} <= changed
    assert not {"projection.weight", "slot_position"} & changed


def test_reading_alone_moves_z(settings, documents, targets):
    reading = _with(settings, routing_weight=0.0, reconstruction_weight=0.0)
    backbone = _backbone(settings, documents, targets)
    before = initialise(backbone, settings.joint, documents, seed=settings.joint.seed).z.detach().clone()
    result = train_joint(documents, targets, backbone, reading)
    assert ((result.model.z - before).flatten(1).norm(dim=1) > 0).all()


def test_held_out_questions_are_never_trained_on(settings, documents, targets):
    backbone = _backbone(settings, documents, targets)
    split = [replace(t, split="test") if t.id == "q0" else t for t in targets]
    data = build_training_set(documents, split, backbone, settings.joint)
    assert "Where was Orla Venn born?" not in {example.text for example in data.examples}
    assert len(data.examples) == 4


def test_held_out_sentences_are_never_studied(settings, documents, targets):
    import random

    backbone = _backbone(settings, documents, targets)
    kept = [t for t in targets if t.evidence != "Orla Venn keeps bees."]
    data = build_training_set(documents, kept, backbone, settings.joint)
    rng = random.Random(0)
    drawn = {backbone.decode(sample_self_study(data, backbone, settings.joint, rng).evidence[:-1]) for _ in range(300)}
    assert "Orla Venn keeps bees." not in drawn
    assert "Orla Venn was born in Tessamor." in drawn


def test_wrong_reads_are_of_documents_that_do_not_answer(settings, documents, targets):
    import random

    backbone = _backbone(settings, documents, targets)
    batch = build_training_set(documents, targets, backbone, settings.joint).examples * 80
    batch.append(replace(batch[0], gold_rows=tuple(range(len(documents)))))
    rng = random.Random(0)
    untouched = rng.getstate()
    assert rows_read(batch, len(documents), 0.0, rng) == [example.row for example in batch]
    assert rng.getstate() == untouched, "without them, training draws what it always drew"
    rows = rows_read(batch, len(documents), 0.3, rng)
    wrong = [(row, example) for row, example in zip(rows, batch, strict=True) if row != example.row]
    assert len(wrong) / len(batch) == pytest.approx(0.3, abs=0.07)
    assert not any(row in example.gold_rows for row, example in wrong)
    assert {row for row, _ in wrong} == set(range(len(documents)))
    assert rows_read(batch, len(documents), 1.0, rng)[-1] == batch[0].row, "there is no other document to read"


def test_queries_are_masked_up_to_a_share_and_the_evidence_is_not(settings, documents, targets):
    import random

    backbone = _backbone(settings, documents, targets)
    example = build_training_set(documents, targets, backbone, settings.joint).examples[0]
    rng, shares = random.Random(0), []
    for _ in range(400):
        masked = mask_query(example, backbone, 0.5, rng)
        assert replace(masked, query=example.query) == example
        pairs = list(zip(masked.query, example.query, strict=True))
        assert all(new in (old, backbone.mask_id) for new, old in pairs)
        shares.append(sum(new != old for new, old in pairs) / len(pairs))
    assert sum(shares) / len(shares) == pytest.approx(0.25, abs=0.03)
    assert min(shares) == 0.0
    assert len(set(shares)) > 3


def test_two_hop_targets_become_one_example_per_document(settings, documents, targets):
    backbone = _backbone(settings, documents, targets)
    evidence = "Orla Venn was born in Tessamor. Lake Munar is ninety metres deep."
    two = EvidenceTarget("h", "both?", ("d0", "d2"), evidence, "gold", "train")
    data = build_training_set(documents, [two], backbone, settings.joint)
    read = {e.row: backbone.decode(e.evidence[:-1]) for e in data.examples}
    assert read == {0: "Orla Venn was born in Tessamor.", 2: "Lake Munar is ninety metres deep."}
    assert all(example.gold_rows == (0, 2) for example in data.examples)


def test_every_target_ends_in_eos_even_when_cut(settings, documents, targets):
    backbone = _backbone(settings, documents, targets)
    training = settings.joint.model_copy(update={"evidence_tokens": 4})
    data = build_training_set(documents, targets, backbone, training)
    assert {len(example.evidence) for example in data.examples} == {5}
    assert all(example.evidence[-1] == backbone.eos_id for example in data.examples)
    assert data.truncated["targets"] == 5


def test_reconstruction_shuffles_sentences_and_covers_them_all(settings, documents, targets):
    import random

    backbone = _backbone(settings, documents, targets)
    training = settings.joint.model_copy(update={"evidence_tokens": 14, "token_dropout": 0.5})
    data = build_training_set(documents, targets, backbone, training)
    rng, seen = random.Random(0), set()
    for _ in range(200):
        row, masked, target = sample_reconstruction(data, backbone, training, rng)
        assert len(masked) == len(target) <= 15
        if row == 0:
            seen.add(backbone.decode(target[:-1]))
    joined = " ".join(seen)
    assert "bees" in joined
    assert "Tessamor" in joined


def test_nothing_to_train_on_is_an_error(settings, documents, targets):
    with pytest.raises(CorpusError, match="nothing to train on"):
        train_joint(documents, [], _backbone(settings, documents, targets), settings)


def test_schedule_warms_up_and_decays():
    rates = [schedule(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == 1.0
    assert rates[9] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=0.01)


def test_the_fingerprint_follows_what_matters(settings, documents, targets):
    base = training_fingerprint(documents, targets, settings)
    for same in ({"save_every": 50}, {"processes": 2}):
        assert training_fingerprint(documents, targets, _with(settings, **same)) == base
    for other in ({"seed": 1}, {"query_mask": 0.1}, {"wrong_reads": 0.1}):
        assert training_fingerprint(documents, targets, _with(settings, **other)) != base
    changed = (Document("d0", "Orla Venn", "She moved to Port Aldous."), *documents[1:])
    assert training_fingerprint(changed, targets, settings) != base
    held_out = [replace(t, query="other?") if t.split != "train" else t for t in targets]
    assert training_fingerprint(documents, held_out, settings) == base


@pytest.mark.parametrize(("self_study", "steps"), [(0.5, 5), (0.0, 3)])
def test_epochs_are_passes_over_the_questions(self_study, steps, settings, documents, targets, monkeypatch):
    from zrag_core.model.training import joint_training as joint

    values = settings.joint.model_dump() | {"steps": None, "epochs": 2, "self_study": self_study}
    epochs = settings.model_copy(update={"joint": JointSettings(**values)})
    seen = Counter()
    draw = joint.draw_batch

    def record(*arguments):
        batch = draw(*arguments)
        seen.update(example.text for example in batch.queries if example.text.endswith("?"))
        return batch

    monkeypatch.setattr(joint, "draw_batch", record)
    result = train_joint(documents, targets, _backbone(settings, documents, targets), epochs)
    assert result.steps == steps  # 5 questions twice, two or four of them in a batch of four
    assert len(seen) == 5
    assert min(seen.values()) >= 2
    assert max(seen.values()) <= 3  # the last batch goes on into the next pass


def test_epochs_without_questions_are_passes_over_the_sentences(settings, documents, targets):
    values = settings.joint.model_dump() | {"steps": None, "epochs": 3}
    epochs = settings.model_copy(update={"joint": JointSettings(**values)})
    study = [target for target in targets if target.method == "self_study"]
    result = train_joint(documents, study, _backbone(settings, documents, targets), epochs)
    assert result.steps == 8  # 10 sentences three times in batches of 4


def test_dev_loss_is_measured_on_the_dev_split_alone(settings, documents, targets):
    split = [replace(target, split="dev") if target.id == "q0" else target for target in targets]
    result = train_joint(documents, split, _backbone(settings, documents, targets), settings)
    query = result.model.backbone.encode("Where was Orla Venn born?")
    evidence = [*result.model.backbone.encode("Orla Venn was born in Tessamor."), result.model.backbone.eos_id]
    with torch.no_grad():
        nll, _ = result.model.read_nll(*whole_document(result.model.z[[0]]), [query], [evidence])
        expected = nll.mean().item()
    assert result.dev_loss == pytest.approx(expected, abs=1e-5)
    assert train_joint(documents, targets, _backbone(settings, documents, targets), settings).dev_loss is None


@torch.no_grad()
def test_evaluation_loss_weighs_tokens_and_not_batches(model, settings, documents, targets):
    examples = build_training_set(documents, targets, model.backbone, settings.joint).examples
    assert len({len(example.evidence) for example in examples}) > 1
    nll = [
        model.read_nll(*whole_document(model.z[[example.row]]), [example.query], [example.evidence])[0]
        for example in examples
    ]
    for batch_size in (1, 2, 64):
        assert evaluation_loss(model, examples, batch_size) == pytest.approx(torch.cat(nll).mean().item(), abs=1e-5)
    assert evaluation_loss(model, [], 4) is None


def test_settings_name_every_problem():
    with pytest.raises(Exception, match=r"joint: give either steps or epochs"):
        load_settings({"joint": {"steps": None}})
