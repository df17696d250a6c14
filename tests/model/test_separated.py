"""The separated policy from end to end: learn a skill, write a memory, keep it, read it; with any backbone."""

import pytest
import torch

from zrag_core.corpus.types import Question
from zrag_core.model.calibration import auroc, calibrate
from zrag_core.model.checkpoint import load_checkpoint, save_checkpoint
from zrag_core.model.ranking import Judged, confidence, fit_confidence, fit_ranking, fit_routing, plain_weights
from zrag_core.model.skill import new_model, train_skill
from zrag_core.model.skill_data import AlmanacSkill
from zrag_core.model.skill_folder import load_skill, save_skill
from zrag_core.model.system import MemorySystem
from zrag_core.model.writing import write_documents
from zrag_core.settings import load_settings

QUESTIONS = [Question("a", "Where was Elard Treenver born?"), Question("b", "Who built the Iron Bridge?")]


def _settings(backbone, **memory):
    return load_settings(
        {
            "backbone": backbone,
            "memory": {"slots": 4, "width": 24, "stride": 4, "key_width": 8, "title_width": 64, "text_width": 64}
            | memory,
            "skill": {"steps": 2, "documents": 3, "questions": 1, "threads": 1, "languages": ["en"]},
            "writing": {"steps": 2, "threads": 1, "queries": 2},
            "decoding": {"routed_documents": 2, "max_new_tokens": 8},
        }
    )


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_real_llm_learns_writes_and_reads_with_an_adapter(quantization, qwen3_folder, documents, targets, tmp_path):
    settings = _settings({"name": str(qwen3_folder), "quantization": quantization, "lora": {"rank": 2}})
    source = AlmanacSkill(("en",))
    model = new_model(settings, source)
    kinds = {type(module).__name__ for module in model.lm.modules()}
    assert ("Linear4bit" in kinds) == (quantization == "nf4")
    base = {n: p.detach().clone() for n, p in model.lm.named_parameters() if "lora" not in n}
    heads = {n: p.clone() for n, p in model.head_state().items()}
    train_skill(model, source, settings.skill, fingerprint="x")
    trained = dict(model.lm.named_parameters())
    assert all(torch.equal(base[name], trained[name]) for name in base), "the base model must stay frozen"
    assert any("lora_B" in name and p.abs().sum() > 0 for name, p in trained.items())
    moved = {name for name, value in model.head_state().items() if not torch.equal(value, heads[name])}
    assert {"encoder.memory_tokens", "encoder.down.weight", "projection.weight", "router.query.weight"} <= moved

    save_skill(tmp_path / "skill", model, settings, skill_id="s", metrics={}, card="# s")
    loaded, _ = load_skill(tmp_path / "skill", 0)
    theta = {name: value.clone() for name, value in loaded.head_state().items()}
    written = write_documents(loaded, documents, targets, settings.writing)
    loaded.remember(documents, written.z)
    assert all(torch.equal(theta[name], value) for name, value in loaded.head_state().items())
    save_checkpoint(tmp_path / "memory", loaded, documents, settings, checkpoint_id="m", metrics={})
    assert (tmp_path / "memory" / "adapter" / "adapter_model.safetensors").is_file()

    checkpoint = load_checkpoint(tmp_path / "memory")
    for free in (False, True):
        found = MemorySystem("zrag", checkpoint, settings.decoding, free=free, threads=1).retrieve(QUESTIONS)
        assert [item.question_id for item in found] == ["a", "b"]
        assert all(item.document_ids for item in found)
        assert free or all(
            checkpoint.documents[[d.id for d in checkpoint.documents].index(s.document_id)].text[s.start : s.end]
            == s.text
            for item in found
            for s in item.segments
        )


def test_calibration_belongs_to_the_skill_and_gives_probabilities(documents, tmp_path):
    tiny = {"hidden_size": 32, "layers": 1, "heads": 2, "vocabulary": 400}
    settings = _settings({"name": "zrag-tiny", "tiny": tiny})
    source = AlmanacSkill(("en",))
    model = new_model(settings, source)
    found = calibrate(model, source, settings, memories=1)
    assert found.questions > 50
    assert not torch.equal(model.ranking, plain_weights(1.0))
    model.remember(documents, torch.randn(len(documents), 4, 24))
    save_checkpoint(tmp_path / "m", model, documents, settings, checkpoint_id="m", metrics={})
    system = MemorySystem("zrag", load_checkpoint(tmp_path / "m"), settings.decoding, threads=1)
    assert all(0 < item.confidence < 1 for item in system.retrieve(QUESTIONS))
    strict = settings.decoding.model_copy(update={"least_confidence": 1.0})
    refusing = MemorySystem("zrag", load_checkpoint(tmp_path / "m"), strict, threads=1)
    assert not any(item.answerable for item in refusing.retrieve(QUESTIONS))


def test_ranking_weights_find_the_feature_that_tells():
    generator = torch.Generator().manual_seed(0)
    judged = []
    for _ in range(60):
        features = torch.randn(5, 6, generator=generator)
        right = torch.zeros(5, dtype=torch.bool)
        right[int(features[:, 4].argmin())] = True
        judged.append(Judged(features, torch.zeros(()), right))
    weights = fit_ranking(judged)
    assert weights[4] < -1
    assert weights[4].abs() > 3 * weights[[0, 1, 2, 3, 5]].abs().max()


def test_routing_scales_follow_the_term_that_tells():
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(3, 200, 20, generator=generator)
    gold = parts[1].argmax(1)
    scales, null = fit_routing(parts, gold, torch.zeros(4))
    assert scales[1] > 1
    assert scales[[0, 2]].max() < 0
    assert null < scales[1].exp() * parts[1].amax(1).min()


def test_ranking_without_any_right_candidate_is_an_error():
    with pytest.raises(ValueError, match="no question has its answer"):
        fit_ranking([Judged(torch.zeros(2, 6), torch.zeros(()), torch.zeros(2, dtype=torch.bool))])


def test_confidence_is_calibrated_on_data_of_its_own_kind():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 3, generator=generator) * torch.tensor([1.0, 10.0, 0.1]) + 5
    truth = torch.sigmoid(1.5 * (features[:, 0] - 5) + 0.05 * (features[:, 1] - 5))
    answerable = torch.rand(4000, generator=generator) < truth
    found = confidence(features, fit_confidence(features, answerable))
    assert (found - truth).abs().mean() < 0.03


def test_auroc_is_the_share_of_pairs_in_order():
    assert auroc([0.9, 0.8], [0.1, 0.8]) == pytest.approx((2 + 1 + 0.5) / 4)
