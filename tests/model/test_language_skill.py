"""The stages of a pretrained LLM's skill, one behind the other: a stop between them loses none that was finished."""

import pytest
import torch
from small_llm import save_small_qwen3

from zrag_core.corpus.prose.asked import AskedSentence, WrittenQuestions
from zrag_core.corpus.types import Document
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.architecture.create_memory import create_separated
from zrag_core.model.training import language_skill
from zrag_core.model.training.progress import TrainingHooks
from zrag_core.settings import BackboneSettings, CodecSettings, LoraSettings, Settings, SkillSettings

WORDS = "mills ponds inns bridges gates towers wells lanes barns kilns docks forges".split()
PROSE = [Document(f"p{n}", f"Isle {n}", f"Isle {n} has old {w} by the sea. It is small.") for n, w in enumerate(WORDS)]
WRITTEN = [Document(f"w{n}", f"Town {n}", f"Town {n} has new {w} in it. It is big.") for n, w in enumerate(WORDS)]


def asked(documents):
    known = [AskedSentence(f"What is in {d.title}?", d.id, d.text.split(" It ")[0]) for d in documents]
    return (*known, *(AskedSentence(f"Who rules {d.title}?", d.id, "") for d in documents))


@pytest.fixture
def small(monkeypatch):
    written = WrittenQuestions(tuple(WRITTEN), asked(WRITTEN[:5]), asked([*WRITTEN[5:], *PROSE[5:]]))
    monkeypatch.setattr(language_skill, "prose_documents", lambda: PROSE)
    monkeypatch.setattr(language_skill, "prose_name", lambda: "prose")
    monkeypatch.setattr(language_skill, "written_questions", lambda prose, korean: written)
    monkeypatch.setattr(language_skill, "_HELD_OUT", 40)
    monkeypatch.setattr(language_skill, "_ALMANAC", 4)
    seen = []

    def ask(_backbone, documents, n, _file, *, log):
        seen.extend(documents)
        return [AskedSentence(f"Is {d.title} small?", d.id, d.text.split(" It ")[0]) for d in documents][:n]

    def teach(texts):
        generator = torch.Generator().manual_seed(len(texts))
        return torch.nn.functional.normalize(torch.randn(len(texts), 24, generator=generator), dim=-1)

    monkeypatch.setattr(language_skill, "write_questions", ask)
    monkeypatch.setattr(language_skill, "teacher_vectors", teach)
    return seen


def train(llm, folder, stop_before=None):
    torch.set_num_threads(1)
    settings = Settings(
        backbone=BackboneSettings(name=str(llm), dtype="float32", lora=LoraSettings(rank=2, alpha=2)),
        codec=CodecSettings(stride=2, width=32, inner=8, key_width=8, steps=3, batch_size=8),
        skill=SkillSettings(start="scratch", steps=3, documents=2, lr=0.01),
    )
    model = create_separated(create_backbone(settings.backbone, (), seed=0), settings)
    steps = []

    def hooks(stage):
        return TrainingHooks(
            state_folder=folder / stage,
            on_progress=lambda p: steps.append((stage, p.step)),
            progress_times=3,
        )

    def log(line):
        if stop_before is not None and stop_before in line:
            raise KeyboardInterrupt

    if stop_before is None:
        metrics = language_skill.train_language_skill(model, settings, folder, hooks, log)
        return model, metrics, steps
    with pytest.raises(KeyboardInterrupt):
        language_skill.train_language_skill(model, settings, folder, hooks, log)
    return model, {}, steps


def test_a_run_that_was_stopped_between_stages_ends_where_one_in_a_piece_does(tmp_path, small):
    llm = save_small_qwen3(tmp_path / "llm", [d.contents for d in (*PROSE, *WRITTEN)], hidden_size=32, head_dim=16)
    whole, metrics, steps = train(llm, tmp_path / "whole")
    assert [step for stage, step in steps if stage == "codec"] == [1, 2, 3]
    assert [step for stage, step in steps if stage == "reading"] == [1, 2, 3]
    assert {"codec_accuracy", "reading_quote", "key_cosine", "skill_documents_auroc"} <= set(metrics)
    train(llm, tmp_path / "parts", stop_before="distilling")
    again, repeated, later = train(llm, tmp_path / "parts")
    assert later == [], "no stage that was finished runs again"
    ignored = ("codec_seconds", "reading_seconds")
    assert {k: v for k, v in repeated.items() if k not in ignored} == pytest.approx(
        {k: v for k, v in metrics.items() if k not in ignored}, abs=1e-4, nan_ok=True
    )
    for name, value in whole.state_dict().items():
        # The fits of an untrained LLM's judgement end where the last bits of its states lead them.
        near = 2e-2 if name.startswith(("ranking", "confidence", "relevance")) else 1e-4
        assert torch.allclose(again.state_dict()[name].float(), value.float(), atol=near), name


def test_refitting_changes_what_judges_and_nothing_else(tmp_path, small):
    llm = save_small_qwen3(tmp_path / "llm", [d.contents for d in (*PROSE, *WRITTEN)], hidden_size=32, head_dim=16)
    model, _, _ = train(llm, tmp_path / "state")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.nn.init.zeros_(model.relevance.score.weight)
    model.ranking.zero_()
    settings = Settings(backbone=BackboneSettings(name=str(llm), dtype="float32"))
    metrics = language_skill.refit_language_skill(model, settings, lambda line: None)
    assert "skill_documents_auroc" in metrics
    judging = ("relevance.", "ranking", "confidence", "router.log_scale", "router.null_score")
    memory = ("z", "spans", "title_", "text_", "keys", "frequency")
    for name, value in model.state_dict().items():
        if not name.startswith((*judging, *memory)):
            assert torch.equal(value, before[name]), name
    assert model.relevance.score.weight.any()
    assert model.ranking.any()


def test_what_is_calibrated_on_was_not_trained_on_and_everything_fits_half_precision(tmp_path, small):
    llm = save_small_qwen3(tmp_path / "llm", [d.contents for d in (*PROSE, *WRITTEN)], hidden_size=32, head_dim=16)
    model, _, _ = train(llm, tmp_path / "state")
    assert {d.id for d in small} == {d.id for d in (*WRITTEN[:5], *PROSE[:5])}
    matrices = [parameter for parameter in model.head_parameters() if parameter.ndim == 2]
    for parameter in (*model.backbone.trainable(), *matrices):
        assert torch.equal(parameter.half().float(), parameter.float())
