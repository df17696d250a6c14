"""The separated policy from end to end: learn a skill, write a memory, keep it, read it; with any backbone."""

import pytest
import torch

from zrag_core.corpus.types import Question
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.architecture.create_memory import create_separated
from zrag_core.model.architecture.encoder import UNUSED
from zrag_core.model.architecture.sentence_features import (
    CONFIDENCE_FEATURES,
    SENTENCE_FEATURES,
    LabelledCandidates,
    confidence,
    fit_confidence,
    fit_ranking,
    fit_routing,
    plain_weights,
    question_features,
)
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.inference.sentence_store import SentenceStore
from zrag_core.model.store.checkpoint import load_checkpoint, save_checkpoint
from zrag_core.model.store.skill_folder import load_skill, save_skill
from zrag_core.model.store.write import write_documents
from zrag_core.model.training.calibration import auroc, calibrate
from zrag_core.model.training.reading_data import AskedPiece, ReadingSource
from zrag_core.model.training.reading_training import train_reading
from zrag_core.model.training.skill_data import AlmanacSkill
from zrag_core.model.training.skill_training import new_model
from zrag_core.sentences import split_sentences
from zrag_core.settings import load_settings

QUESTIONS = [Question("a", "Where was Elard Treenver born?"), Question("b", "Who built the Iron Bridge?")]


def _settings(backbone, codec=None, **memory):
    return load_settings(
        {
            "codec": codec or {},
            "backbone": {**backbone, "threads": 1},
            "separated": {"slots": 4, "width": 24, "stride": 4, "key_width": 8} | memory,
            "skill": {"steps": 2, "documents": 3, "questions": 1, "languages": ["en"]},
            "writing": {"steps": 2, "queries": 2},
            "decoding": {"routed_documents": 2, "max_new_tokens": 8},
        }
    )


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_real_llm_learns_writes_and_reads_with_an_adapter(quantization, qwen3_folder, documents, targets, tmp_path):
    own = {"stride": 2, "width": 64, "inner": 8, "key_width": 8}
    settings = _settings({"name": str(qwen3_folder), "quantization": quantization, "lora": {"rank": 2}}, codec=own)
    model = create_separated(create_backbone(settings.backbone, (), seed=0), settings)
    kinds = {type(module).__name__ for module in model.lm.modules()}
    assert ("Linear4bit" in kinds) == (quantization == "nf4")
    base = {n: p.detach().clone() for n, p in model.lm.named_parameters() if "lora" not in n}
    pieces = [(d.title, [s.text for s in split_sentences(d.text)]) for d in documents]
    source = ReadingSource(pieces, [(1.0, [AskedPiece("Where?", 0, 0)])])
    train_reading(model, source, settings.skill, fingerprint="x")
    trained = dict(model.lm.named_parameters())
    assert all(torch.equal(base[name], trained[name]) for name in base), "the base model must stay frozen"
    assert any("lora_B" in name and p.abs().sum() > 0 for name, p in trained.items())
    with torch.no_grad():  # as training ends
        for parameter in model.head_parameters():
            parameter.copy_(parameter.half())

    save_skill(tmp_path / "skill", model, settings, skill_id="s", metrics={}, card="# s")
    loaded = load_skill(tmp_path / "skill").model
    theta = {name: value.clone() for name, value in loaded.head_state().items()}
    written = write_documents(loaded, documents, targets, settings.writing)
    loaded.remember(documents, written.z, written.spans)
    assert all(torch.equal(theta[name], value) for name, value in loaded.head_state().items())
    save_checkpoint(tmp_path / "memory", loaded, documents, settings, checkpoint_id="m", metrics={})
    assert (tmp_path / "memory" / "adapter" / "adapter_model.safetensors").is_file()

    checkpoint = load_checkpoint(tmp_path / "memory")
    for free in (False, True):
        found = create_system("zrag", checkpoint, settings.decoding, free=free, threads=1).retrieve(QUESTIONS)
        assert [item.question_id for item in found] == ["a", "b"]
        assert all(item.document_ids for item in found)
        assert free or all(
            checkpoint.documents[[d.id for d in checkpoint.documents].index(s.document_id)].text[s.start : s.end]
            == s.text
            for item in found
            for s in item.segments
        )


def test_calibration_belongs_to_the_skill_and_gives_probabilities(documents, tmp_path, monkeypatch):
    monkeypatch.setattr("zrag_core.model.training.calibration._DOCUMENTS", 24)  # a minute otherwise
    tiny = {"hidden_size": 32, "layers": 1, "heads": 2, "vocabulary": 400}
    settings = _settings({"name": "zrag-tiny", "tiny": tiny})
    source = AlmanacSkill(("en",))
    model = new_model(settings, source)
    theta = {name: p.clone() for name, p in model.named_parameters()}
    found = calibrate(model, source, settings, memories=1)
    assert found.questions > 50
    assert not torch.equal(model.ranking, plain_weights(1.0))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, theta[name])}
    assert moved == {"router.log_scale", "router.null_score"}, "nothing that writes, finds or reads"
    with torch.no_grad():
        sentences = [sentence_ids(model.backbone, document.text) for document in documents]
        model.remember(documents, *model.encode(sentences))
    save_checkpoint(tmp_path / "m", model, documents, settings, checkpoint_id="m", metrics={})
    system = create_system("zrag", load_checkpoint(tmp_path / "m"), settings.decoding, threads=1)
    assert all(0 < item.confidence < 1 for item in system.retrieve(QUESTIONS))
    strict = settings.decoding.model_copy(update={"least_confidence": 1.0})
    refusing = create_system("zrag", load_checkpoint(tmp_path / "m"), strict, threads=1)
    assert not any(item.answerable for item in refusing.retrieve(QUESTIONS))


def test_every_sentence_that_calibration_judges_has_slots(monkeypatch):
    """Also of documents that training cuts short."""
    for name, number in (("_DOCUMENTS", 8), ("_OUTSIDE", 2)):
        monkeypatch.setattr(f"zrag_core.model.training.calibration.{name}", number)
    tiny = {"hidden_size": 32, "layers": 1, "heads": 2, "vocabulary": 400}
    settings = _settings({"name": "zrag-tiny", "tiny": tiny})
    settings = settings.model_copy(update={"skill": settings.skill.model_copy(update={"document_tokens": 60})})
    judged = []

    def system(name, checkpoint, *arguments):
        judged.append((checkpoint.documents, checkpoint.model.document_slots()[1].tolist()))
        return create_system(name, checkpoint, *arguments)

    monkeypatch.setattr("zrag_core.model.training.calibration.SeparatedSystem", system)
    source = AlmanacSkill(("en",))
    model = new_model(settings, source)
    calibrate(model, source, settings, memories=1)
    assert len(judged) == 2
    for documents, spans in judged:
        looked_for = SentenceStore.build(model, documents).spans
        assert [set(own) - {UNUSED} for own in spans] == [set(own) for own in looked_for]


@pytest.mark.parametrize("name", SENTENCE_FEATURES)
def test_ranking_weights_find_the_feature_that_tells(name):
    generator, number = torch.Generator().manual_seed(0), SENTENCE_FEATURES.index(name)
    judged = []
    for _ in range(60):
        features = torch.randn(5, len(SENTENCE_FEATURES), generator=generator)
        right = torch.zeros(5, dtype=torch.bool)
        right[int(features[:, number].argmin())] = True
        judged.append(LabelledCandidates(features, torch.zeros(()), right))
    weights = fit_ranking(judged)
    others = torch.arange(len(SENTENCE_FEATURES)) != number
    assert weights[number] < -1
    assert weights[number].abs() > 3 * weights[others].abs().max()


def test_a_question_is_judged_by_its_best_sentence():
    features = torch.arange(2 * len(SENTENCE_FEATURES)).reshape(2, -1).float()
    known, scores = torch.tensor(-0.5), torch.tensor([3.0, 7.0])
    own = {"known": -0.5, "score": 7.0} | dict(zip(SENTENCE_FEATURES, features[1].tolist(), strict=True))
    assert question_features(known, features, scores).tolist() == [own[name] for name in CONFIDENCE_FEATURES]


def test_routing_scales_follow_the_term_that_tells():
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(3, 200, 20, generator=generator)
    gold = parts[1].argmax(1)
    scales, null = fit_routing(parts, gold, torch.zeros(4))
    assert scales[1] > 1
    assert scales[[0, 2]].max() < 0
    assert null < scales[1].exp() * parts[1].amax(1).min()


def test_routing_scales_are_finite_wherever_the_search_steps():
    """Scales are powers of e, which a long step of the line search takes beyond what a float holds."""
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        gold = torch.randint(0, 45, (60,), generator=generator).clamp(max=40)
        parts = torch.randn(3, 60, 40, generator=generator) * torch.tensor([2.0, 8.0, 0.05])[:, None, None]
        known = torch.arange(60)[gold < 40]
        parts[0, known, gold[known]] += 3
        parts[1, known, gold[known]] += 20
        scales, null = fit_routing(parts, gold, torch.tensor([-1.0, -2.3, -1.0, 0.0]))
        assert scales.isfinite().all()
        assert null.isfinite()


def test_ranking_without_any_right_candidate_is_an_error():
    with pytest.raises(ValueError, match="no question has its answer"):
        fit_ranking([LabelledCandidates(torch.zeros(2, 7), torch.zeros(()), torch.zeros(2, dtype=torch.bool))])


def test_confidence_is_calibrated_on_data_of_its_own_kind():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 3, generator=generator) * torch.tensor([1.0, 10.0, 0.1]) + 5
    truth = torch.sigmoid(1.5 * (features[:, 0] - 5) + 0.05 * (features[:, 1] - 5))
    answerable = torch.rand(4000, generator=generator) < truth
    found = confidence(features, fit_confidence(features, answerable))
    assert (found - truth).abs().mean() < 0.03


def test_auroc_is_the_share_of_pairs_in_order():
    assert auroc([0.9, 0.8], [0.1, 0.8]) == pytest.approx((2 + 1 + 0.5) / 4)
