import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from memory_fixtures import slots_of

from zrag_core.model.architecture.attention import float32_attention
from zrag_core.model.training.progress import Progress, TrainingHooks
from zrag_core.model.training.skill_batch import make_batch
from zrag_core.model.training.skill_data import AlmanacSkill
from zrag_core.model.training.skill_training import new_model, schedule, skill_fingerprint, skill_losses, train_skill


@pytest.fixture(scope="module")
def source():
    return AlmanacSkill(("en",))


@pytest.fixture
def fresh(skill_settings, source, monkeypatch):
    """Makes the model that training starts from; its tokenizer is learned from few documents."""
    monkeypatch.setattr("zrag_core.model.training.skill_training._TOKENIZER_DOCUMENTS", 40)
    return lambda settings=skill_settings: new_model(settings, source)


def _batch(source, model, skill, seed, *, slots=32, level=3):
    stride = model.settings.stride
    return make_batch(source, model.backbone, skill, random.Random(seed), slots=slots, stride=stride, level=level)


def _with(settings, **skill):
    return settings.model_copy(update={"skill": settings.skill.model_copy(update=skill)})


class _StopError(Exception):
    pass


def _stop_at(step):
    def stop(progress):
        if progress.step == step:
            raise _StopError

    return stop


def _same(first, second):
    expected, got = first.model.state_dict(), second.model.state_dict()
    return all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_resumed_training_equals_one_that_was_never_stopped(fresh, source, skill_settings, tmp_path):
    # A level is left at every step, so the curriculum has to be resumed as well.
    skill = skill_settings.skill.model_copy(update={"level_loss": 99.0})
    whole = train_skill(fresh(), source, skill, fingerprint="f")
    with pytest.raises(_StopError):
        train_skill(
            fresh(),
            source,
            skill,
            fingerprint="f",
            hooks=TrainingHooks(state_folder=tmp_path / "s", on_progress=_stop_at(5)),
        )
    seen = []
    resumed = train_skill(
        fresh(), source, skill, fingerprint="f", hooks=TrainingHooks(state_folder=tmp_path / "s", on_resume=seen.append)
    )
    assert (resumed.resumed_from, seen, resumed.steps) == (4, [4], 6)
    assert _same(whole, resumed)
    assert resumed.losses == whole.losses
    assert not _same(whole, train_skill(fresh(), source, skill.model_copy(update={"seed": 1}), fingerprint="f"))


def test_the_state_of_another_training_is_not_resumed(fresh, source, skill_settings, tmp_path):
    skill = skill_settings.skill
    with pytest.raises(_StopError):
        train_skill(
            fresh(),
            source,
            skill,
            fingerprint="f",
            hooks=TrainingHooks(state_folder=tmp_path / "s", on_progress=_stop_at(5)),
        )
    seen = []
    afresh = train_skill(
        fresh(), source, skill, fingerprint="g", hooks=TrainingHooks(state_folder=tmp_path / "s", on_resume=seen.append)
    )
    assert (afresh.resumed_from, seen) == (0, [])
    assert _same(afresh, train_skill(fresh(), source, skill, fingerprint="g"))


class _Same:
    """A source that draws the same documents in every step: something to learn in seconds."""

    name = "same"

    def __init__(self, source):
        self._source = source

    def draw(self, rng, n, questions, *, held_out=False):
        return self._source.draw(random.Random(0), n, questions)


def test_training_learns_to_read_to_rebuild_to_find_and_to_route(fresh, source, skill_settings):
    skill = skill_settings.skill.model_copy(
        update={"steps": 60, "level_loss": 0.0, "renamed_share": 0.0, "document_tokens": 1000}
    )
    model, source = fresh(), _Same(source)
    with torch.no_grad():  # exact words find most documents before anything is learned
        model.router.log_scale[:2] -= 1.0
    another = _batch(source, model, skill, "other", level=0)
    with torch.no_grad():
        before = skill_losses(model, another, skill)
    seen = []
    result = train_skill(
        model, source, skill, fingerprint="f", hooks=TrainingHooks(on_progress=seen.append, progress_times=4)
    )
    with torch.no_grad():
        after = skill_losses(model, another, skill)
    assert set(before) == {"evidence", "finding", "reconstruction", "routing"}
    assert after["evidence"] < 0.8 * before["evidence"]
    assert after["reconstruction"] < 0.8 * before["reconstruction"]
    assert after["finding"] < 0.6 * before["finding"]
    assert after["routing"] < 0.8 * before["routing"]
    assert [progress.step for progress in seen] == [15, 30, 45, 60]
    assert {**seen[-1].losses} == {**result.losses, "level": 0}
    assert seen[0].learning_rate > seen[-1].learning_rate
    assert not result.model.training
    assert result.model.n_documents == 0


def test_a_level_is_left_when_its_loss_is_low_enough(fresh, source, skill_settings, monkeypatch):
    def levels(evidence, **skill):
        monkeypatch.setattr(
            "zrag_core.model.training.skill_training.skill_losses",
            lambda model, batch, settings, group: {"evidence": 0 * model.markers.sum() + evidence},
        )
        seen = []
        settings = skill_settings.skill.model_copy(update={"documents": 1, **skill})
        train_skill(
            fresh(),
            source,
            settings,
            fingerprint="f",
            hooks=TrainingHooks(on_progress=lambda p: seen.append(p.losses["level"])),
        )
        return seen

    assert levels(0.5, steps=5, level_loss=99.0) == [1, 2, 3, 3, 3], "at the third a slot keeps the whole stride of 4"
    assert levels(0.5, steps=3, level_loss=0.0) == [0] * 3
    # At a new level the mean starts at 1: 0.5 + 0.5 * 0.96**6 is the first below 0.9.
    assert levels(0.5, steps=14, level_loss=0.9) == [1] * 6 + [2] * 6 + [3] * 2


def test_matrices_of_the_layers_are_trained_by_muon_and_the_rest_by_adam(fresh, source, skill_settings):
    def moved(**rates):
        model = fresh()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        # Weight decay acts through the learning rate too: a rate of zero moves nothing at all.
        # Every document is one to find something in.
        skill = skill_settings.skill.model_copy(update={"steps": 1, "documents": 8, "renamed_share": 0.0, **rates})
        train_skill(model, source, skill, fingerprint="f")
        return {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}

    matrices = {n for n, p in fresh().named_parameters() if ".layers." in n and p.ndim == 2}
    assert len(matrices) == 2 * 7
    assert moved(lr=0.0) == matrices
    others = moved(lr_matrices=0.0)
    assert not others & matrices
    assert {"lm.model.embed_tokens.weight", "projection.weight", "slot_position", "markers", "router.query.weight",
            "router.key.weight", "router.token_weight.weight", "router.log_scale", "router.null_score",
            "router.null_span", "encoder.memory_token", "encoder.down.weight"} <= others  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize(("slots", "level"), [(32, 3), (3, 3), (4, 0)])
def test_losses_are_those_of_each_example_alone(writer, source, skill_settings, slots, level):
    """Oracle: every document encoded by itself, and every example with the slots of its span picked one by one."""
    skill = skill_settings.skill.model_copy(
        update={"unanswerable_share": 1.0, "documents": 3, "renamed_share": 0.0, "document_tokens": 1000}
    )
    batch = _batch(source, writer, skill, 0, slots=slots, level=level)
    losses = skill_losses(writer, batch, skill)
    written = [writer.encode([sentences], batch.stride, batch.slots) for sentences in batch.sentences]

    def own(example):
        z, spans = (value[0] for value in written[example.row])
        return slots_of(z, spans, example.span)

    read = [writer.read_nll(*own(e), [e.given], [e.target], batch.stride)[0] for e in batch.reads]
    assert losses["evidence"].item() == pytest.approx(torch.cat(read).mean().item(), abs=1e-4)
    rebuilt = [writer.write_nll(*own(e), [e.given], [e.target], batch.stride)[0] for e in batch.rebuilds]
    assert losses["reconstruction"].item() == pytest.approx(torch.cat(rebuilt).mean().item(), abs=1e-4)

    found = []
    for example in batch.finds:
        log_p = writer.span_logits([example.given], *written[example.row])[0].log_softmax(-1)
        assert len(log_p) == batch.slots + 1
        found.append(-log_p[batch.slots if example.span is None else example.span])
    assert any(example.span is None for example in batch.finds)
    assert losses["finding"].item() == pytest.approx(torch.stack(found).mean().item(), abs=1e-4)

    writer.remember(batch.documents, *(torch.cat(values) for values in zip(*written, strict=True)))
    scores = [writer.routing_scores([text], [ids])[0] for text, ids, _ in batch.queries]
    gold = torch.tensor([row for _, _, row in batch.queries])
    assert losses["routing"].item() == pytest.approx(F.cross_entropy(torch.stack(scores), gold).item(), abs=1e-4)


def test_parts_without_weight_or_examples_are_not_computed(writer, source, skill_settings):
    skill = skill_settings.skill
    batch = _batch(source, writer, skill, 0, level=1)
    without = {f"{name}_weight": 0.0 for name in ("finding", "reconstruction", "routing")}
    assert set(skill_losses(writer, batch, skill.model_copy(update=without))) == {"evidence"}
    assert set(skill_losses(writer, replace(batch, reads=[], finds=[]), skill)) == {"reconstruction", "routing"}


@torch.no_grad()
def test_what_the_document_says_reaches_its_reader_through_the_slots_alone(writer, source, skill_settings):
    batch = _batch(source, writer, skill_settings.skill, 0, level=1)
    changed = replace(batch, sentences=[[ids[::-1] for ids in document] for document in batch.sentences])
    for name in ("evidence", "reconstruction"):
        writer.alpha = 1.0
        seen = [skill_losses(writer, each, skill_settings.skill)[name].item() for each in (batch, changed)]
        writer.alpha = 0.0
        hidden = [skill_losses(writer, each, skill_settings.skill)[name].item() for each in (batch, changed)]
        assert seen[0] != seen[1]
        assert hidden[0] == hidden[1]


def test_schedule_rises_stays_and_falls(skill_settings):
    skill = skill_settings.skill.model_copy(update={"steps": 100, "warmup": 0.1, "decay": 0.4})
    rates = [schedule(step, skill) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:60] == [1.0] * 50
    assert rates[60:] == pytest.approx([(100 - step) / 40 for step in range(60, 100)])
    assert rates[-1] > 0, "the last step counts too"
    short = skill.model_copy(update={"steps": 1, "warmup": 0.0, "decay": 0.0})
    assert schedule(0, short) == 1.0


def test_the_fingerprint_follows_what_matters(skill_settings):
    base = skill_fingerprint(skill_settings, "almanac (en)")
    assert skill_fingerprint(_with(skill_settings, save_every=50, compile=True), "almanac (en)") == base
    assert skill_fingerprint(skill_settings, "almanac (ko)") != base
    for change in ({"seed": 1}, {"steps": 7}, {"autocast": True}, {"finding_weight": 0.5}, {"query_mask": 0.1}):
        assert skill_fingerprint(_with(skill_settings, **change), "almanac (en)") != base
    shape = skill_settings.separated.model_copy(update={"stride": 5})
    assert skill_fingerprint(skill_settings.model_copy(update={"separated": shape}), "almanac (en)") != base


def test_mixed_precision_trains_much_the_same(fresh, source, skill_settings):
    exact = train_skill(fresh(), source, skill_settings.skill, fingerprint="f")
    model = fresh()
    before = model.lm.config._attn_implementation
    mixed = train_skill(model, source, skill_settings.skill.model_copy(update={"autocast": True}), fingerprint="f")
    assert mixed.losses["evidence"] == pytest.approx(exact.losses["evidence"], rel=0.02)
    assert not _same(exact, mixed)
    assert model.lm.config._attn_implementation == before


@torch.no_grad()
def test_attention_in_float32_computes_the_same(writer):
    embeds = writer.backbone.embed(torch.tensor([[5, 6, 7, 8], [9, 5, 0, 0]]))
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    expected = writer.backbone.hidden(embeds, mask)
    before = writer.lm.config._attn_implementation
    with float32_attention(writer.backbone, compiled=False):
        assert writer.lm.config._attn_implementation != before
        assert torch.allclose(writer.backbone.hidden(embeds, mask)[mask.bool()], expected[mask.bool()], atol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = writer.backbone.hidden(embeds, mask)[mask.bool()].float()
        assert torch.allclose(mixed, expected[mask.bool()], atol=0.1)
    with pytest.raises(_StopError), float32_attention(writer.backbone, compiled=False):
        raise _StopError
    assert writer.lm.config._attn_implementation == before, "restored after an error too"


def test_progress_reads_as_one_line():
    line = Progress(1500, 3000, {"evidence": 0.51234, "level": 3}, 1e-3, 12345.6, 125.4).line()
    assert line == "step 1,500 of 3,000  evidence 0.512  level 3.000  12,346 tokens/s  2 min 05 s left"
