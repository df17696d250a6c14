import random

import pytest
import torch
import torch.nn.functional as F

from zrag_core.model.attention import float32_attention
from zrag_core.model.progress import Progress
from zrag_core.model.skill import new_model, schedule, skill_fingerprint, skill_losses, train_skill
from zrag_core.model.skill_data import AlmanacSkill, SkillBatch, highest_level, make_batch


@pytest.fixture(scope="module")
def source():
    return AlmanacSkill(("en",))


@pytest.fixture
def fresh(skill_settings, source, monkeypatch):
    """Makes the model that training starts from; its tokenizer is learned from few documents."""
    monkeypatch.setattr("zrag_core.model.skill._TOKENIZER_DOCUMENTS", 40)
    return lambda settings=skill_settings: new_model(settings, source)


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
    skill = skill_settings.skill.model_copy(update={"level_loss": 99.0, "sentences": 8})
    whole = train_skill(fresh(), source, skill, fingerprint="f")
    with pytest.raises(_StopError):
        train_skill(fresh(), source, skill, fingerprint="f", state_folder=tmp_path / "s", on_progress=_stop_at(5))
    seen = []
    resumed = train_skill(fresh(), source, skill, fingerprint="f", state_folder=tmp_path / "s", on_resume=seen.append)
    assert (resumed.resumed_from, seen, resumed.steps) == (4, [4], 6)
    assert _same(whole, resumed)
    assert resumed.losses == whole.losses
    assert not _same(whole, train_skill(fresh(), source, skill.model_copy(update={"seed": 1}), fingerprint="f"))


def test_the_state_of_another_training_is_not_resumed(fresh, source, skill_settings, tmp_path):
    skill = skill_settings.skill
    with pytest.raises(_StopError):
        train_skill(fresh(), source, skill, fingerprint="f", state_folder=tmp_path / "s", on_progress=_stop_at(5))
    seen = []
    afresh = train_skill(fresh(), source, skill, fingerprint="g", state_folder=tmp_path / "s", on_resume=seen.append)
    assert (afresh.resumed_from, seen) == (0, [])
    assert _same(afresh, train_skill(fresh(), source, skill, fingerprint="g"))


def test_training_learns_to_read_to_rebuild_and_to_route(fresh, source, skill_settings):
    skill = skill_settings.skill.model_copy(
        update={"steps": 60, "documents": 8, "sentences": 1, "level_loss": 0.0, "renamed_share": 0.0}
    )
    model = fresh()
    held_out = make_batch(source, model.backbone, skill, random.Random("other"), stride=1, level=0)
    with torch.no_grad():
        before = skill_losses(model, held_out, skill)
    seen = []
    result = train_skill(model, source, skill, fingerprint="f", on_progress=seen.append, progress_times=4)
    with torch.no_grad():
        after = skill_losses(model, held_out, skill)
    assert set(before) == {"evidence", "decision", "reconstruction", "routing"}
    assert after["evidence"] < 0.8 * before["evidence"]
    assert after["reconstruction"] < 0.8 * before["reconstruction"]
    assert after["routing"] < before["routing"]
    assert [progress.step for progress in seen] == [15, 30, 45, 60]
    assert {**seen[-1].losses} == {**result.losses, "level": 0}
    assert seen[0].learning_rate > seen[-1].learning_rate
    assert not result.model.training
    assert len(result.model.z) == 0


def test_a_level_is_left_when_its_loss_is_low_enough(fresh, source, skill_settings):
    def levels(**skill):
        seen = []
        settings = skill_settings.skill.model_copy(update={"steps": 5, "documents": 2, **skill})
        train_skill(fresh(), source, settings, fingerprint="f", on_progress=lambda p: seen.append(p.losses["level"]))
        return seen

    assert levels(level_loss=99.0, sentences=8) == [1, 2, 3, 4, 5]
    assert levels(level_loss=99.0, sentences=2) == [1, 2, 3, 3, 3], "stride 4 is the highest level"
    assert highest_level(skill_settings.skill, 4) == 3
    assert levels(level_loss=0.0) == [0] * 5


def test_matrices_of_the_layers_are_trained_by_muon_and_the_rest_by_adam(fresh, source, skill_settings):
    def moved(**rates):
        model = fresh()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        # Weight decay acts through the learning rate too: a rate of zero moves nothing at all.
        skill = skill_settings.skill.model_copy(update={"steps": 1, "documents": 8, **rates})
        train_skill(model, source, skill, fingerprint="f")
        return {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}

    matrices = {n for n, p in fresh().named_parameters() if ".layers." in n and p.ndim == 2}
    assert len(matrices) == 2 * 7
    assert moved(lr=0.0) == matrices
    others = moved(lr_matrices=0.0)
    assert not others & matrices
    assert {"lm.model.embed_tokens.weight", "projection.weight", "slot_position", "markers", "router.query.weight",
            "router.key.weight", "router.log_scale", "router.null_score", "encoder.memory_tokens",
            "encoder.down.weight"} <= others  # fmt: skip


def test_losses_are_those_of_their_parts(writer, source, skill_settings):
    skill = skill_settings.skill.model_copy(update={"unanswerable_share": 1.0, "documents": 3})
    batch = make_batch(source, writer.backbone, skill, random.Random(0), stride=3, level=1)
    with torch.no_grad():
        losses = skill_losses(writer, batch, skill)
        z = writer.encode(batch.ids, batch.stride)
        single = [
            (evidence, writer.packed_read_nll(z[row : row + 1], [[(query, evidence)]], batch.stride)[0])
            for row, own in enumerate(batch.pairs)
            for query, evidence in own
        ]
        answered = torch.cat([nll for evidence, nll in single if len(evidence) > 1])
        refused = torch.cat([nll for evidence, nll in single if len(evidence) == 1])
        rebuilt = [
            writer.write_loss(z[row : row + 1], [masked], [[*ids, writer.backbone.eos_id]], batch.stride)
            for row, (masked, ids) in enumerate(zip(batch.masked, batch.ids, strict=True))
        ]
        tokens = torch.tensor([len(masked) for masked in batch.masked])
        writer.remember(batch.documents, z)
        scores = writer.routing_scores([text for text, _, _ in batch.queries], [ids for _, ids, _ in batch.queries])
    assert len(refused) >= 3
    assert losses["evidence"].item() == pytest.approx(answered.mean().item(), abs=1e-4)
    decisions = torch.stack([nll[0] for _, nll in single])
    assert losses["decision"].item() == pytest.approx(decisions.mean().item(), abs=1e-4)
    expected = (torch.stack(rebuilt) * tokens).sum() / tokens.sum()
    assert losses["reconstruction"].item() == pytest.approx(expected.item(), abs=1e-4)
    gold = torch.tensor([row for _, _, row in batch.queries])
    assert losses["routing"].item() == pytest.approx(F.cross_entropy(scores, gold).item(), abs=1e-4)


def test_parts_without_weight_are_not_computed(writer, source, skill_settings):
    skill = skill_settings.skill.model_copy(
        update={"reconstruction_weight": 0.0, "routing_weight": 0.0, "unanswerable_share": 0.0}
    )
    batch = make_batch(source, writer.backbone, skill, random.Random(0), stride=3, level=1)
    assert set(skill_losses(writer, batch, skill)) == {"evidence", "decision"}


def test_what_the_document_says_reaches_its_reader_through_the_slots_alone(writer, source, skill_settings):
    batch = make_batch(source, writer.backbone, skill_settings.skill, random.Random(0), stride=4, level=1)
    other = [[*reversed(ids)] for ids in batch.ids]
    changed = SkillBatch(**{**vars(batch), "ids": other})
    with torch.no_grad():
        writer.alpha = 1.0
        seen = [skill_losses(writer, each, skill_settings.skill)["evidence"].item() for each in (batch, changed)]
        writer.alpha = 0.0
        hidden = [skill_losses(writer, each, skill_settings.skill)["evidence"].item() for each in (batch, changed)]
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
    assert skill_fingerprint(_with(skill_settings, threads=2, save_every=50, compile=True), "almanac (en)") == base
    assert skill_fingerprint(skill_settings, "almanac (ko)") != base
    for change in ({"seed": 1}, {"steps": 7}, {"autocast": True}):
        assert skill_fingerprint(_with(skill_settings, **change), "almanac (en)") != base
    memory = skill_settings.memory.model_copy(update={"stride": 5})
    assert skill_fingerprint(skill_settings.model_copy(update={"memory": memory}), "almanac (en)") != base


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
