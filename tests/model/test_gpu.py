import pytest
import torch

from zrag_core.corpus.types import Question
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.store.checkpoint import load_checkpoint, save_checkpoint
from zrag_core.model.store.write import write_documents
from zrag_core.model.training.calibration import calibrate
from zrag_core.model.training.joint_training import train_joint
from zrag_core.model.training.progress import TrainingHooks
from zrag_core.model.training.skill_data import AlmanacSkill
from zrag_core.model.training.skill_training import new_model, train_skill

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_nf4_lora_trains_saves_and_reads_on_cuda(qwen3_folder, documents, targets, settings, tmp_path):
    values = settings.model_dump()
    values["backbone"] |= {"name": str(qwen3_folder), "quantization": "nf4", "device": "cuda", "dtype": "bfloat16"}
    chosen = type(settings).model_validate(values)
    backbone = create_backbone(chosen.backbone, (), seed=0)
    assert backbone.device.type == "cuda"
    losses = []
    result = train_joint(
        documents, targets, backbone, chosen, hooks=TrainingHooks(on_progress=lambda p: losses.append(p.losses))
    )
    assert losses[-1]["evidence"] < losses[0]["evidence"]
    save_checkpoint(tmp_path / "checkpoint", result.model, documents, chosen, checkpoint_id="gpu", metrics={})
    checkpoint = load_checkpoint(tmp_path / "checkpoint", device="cuda")
    question = Question("a", "Where was Orla Venn born?", ("Tessamor",), ("d0",))
    found = create_system("zrag_joint", checkpoint, settings.decoding, threads=1).retrieve([question])[0]
    assert found.document_ids[0] == "d0"
    assert len(found.segments) == 4


def test_a_skill_learns_is_calibrated_writes_and_reads_on_cuda(
    skill_settings, documents, targets, tmp_path, monkeypatch
):
    monkeypatch.setattr("zrag_core.model.training.calibration._DOCUMENTS", 16)
    backbone = skill_settings.backbone.model_copy(update={"device": "cuda"})
    chosen = skill_settings.model_copy(update={"backbone": backbone})
    source = AlmanacSkill(("en",))
    model = new_model(chosen, source)
    assert model.device.type == "cuda"
    train_skill(model, source, chosen.skill, fingerprint="x")
    calibrate(model, source, chosen, memories=1)
    written = write_documents(model, documents, targets, chosen.writing)
    model.remember(documents, written.z, written.spans)
    save_checkpoint(tmp_path / "m", model, documents, chosen, checkpoint_id="m", metrics={})
    question = Question("a", "Where was Orla Venn born?", ("Tessamor",), ("d0",))
    there, here = (
        create_system("zrag", load_checkpoint(tmp_path / "m", device=device), chosen.decoding, threads=1)
        for device in ("cuda", "cpu")
    )
    (found,), (expected,) = there.retrieve([question]), here.retrieve([question])
    assert found.document_ids == expected.document_ids
    assert found.confidence == pytest.approx(expected.confidence, abs=0.01)
    assert {s.text: s.score for s in found.segments} == pytest.approx(
        {s.text: s.score for s in expected.segments}, abs=0.05
    )
