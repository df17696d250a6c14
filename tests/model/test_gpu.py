import pytest
import torch

from zrag_core.corpus.types import Question
from zrag_core.model.backbone import create_backbone
from zrag_core.model.checkpoint import load_checkpoint, save_checkpoint
from zrag_core.model.joint import train_joint
from zrag_core.model.system import MemorySystem

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_nf4_lora_trains_saves_and_reads_on_cuda(qwen3_folder, documents, targets, settings, tmp_path):
    values = settings.model_dump()
    values["backbone"] |= {"name": str(qwen3_folder), "quantization": "nf4", "device": "cuda", "dtype": "bfloat16"}
    chosen = type(settings).model_validate(values)
    backbone = create_backbone(chosen.backbone, (), seed=0)
    assert backbone.device.type == "cuda"
    losses = []
    result = train_joint(documents, targets, backbone, chosen, on_progress=lambda p: losses.append(p.losses))
    assert losses[-1]["evidence"] < losses[0]["evidence"]
    save_checkpoint(tmp_path / "checkpoint", result.model, documents, chosen, checkpoint_id="gpu", metrics={})
    checkpoint = load_checkpoint(tmp_path / "checkpoint", device="cuda")
    question = Question("a", "Where was Orla Venn born?", ("Tessamor",), ("d0",))
    found = MemorySystem("zrag_joint", checkpoint, settings.decoding, threads=1).retrieve([question])[0]
    assert found.document_ids[0] == "d0"
    assert len(found.segments) == 4
