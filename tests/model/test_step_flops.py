"""The operations that docs/costs.py computes for a training step are those that torch counts."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from small_llm import save_small_qwen3
from torch.utils.flop_counter import FlopCounterMode

from zrag_core.corpus.types import Document
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.architecture.spans import whole_document
from zrag_core.model.training.joint_training import initialise
from zrag_core.settings import load_settings

PAGE = Path(__file__).parents[2] / "docs" / "costs.py"
QUESTIONS, QUERY, EVIDENCE, SLOTS, RANK = 4, 24, 32, 4, 8


@pytest.fixture(scope="module")
def costs():
    spec = importlib.util.spec_from_file_location("costs", PAGE)
    script = importlib.util.module_from_spec(spec)
    sys.modules["costs"] = script
    spec.loader.exec_module(script)
    return script


@pytest.mark.parametrize(("hidden", "layers", "inner"), [(64, 2, 128), (128, 4, 384)])
def test_a_step_takes_the_operations_that_are_computed(costs, hidden, layers, inner, tmp_path):
    heads, groups = hidden // 16, hidden // 32
    shape = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "head_dim": 16}
    folder = save_small_qwen3(
        tmp_path / "llm",
        ["Where was Orla Venn born? In Tessamor."],
        num_attention_heads=heads,
        num_key_value_heads=groups,
        **shape,
    )
    backbone = {"name": str(folder), "device": "cpu", "lora": {"rank": RANK}}
    settings = load_settings({"backbone": backbone, "joint": {"slots": SLOTS, "width": 32}})
    llm = create_backbone(settings.backbone, (), seed=0)
    documents = [Document(f"d{number}", "", "text") for number in range(8)]
    model = initialise(llm, settings.joint, documents, seed=0).train()
    queries = [[number + 1] * QUERY for number in range(QUESTIONS)]  # a query that is asked twice is read once
    targets = [[9] * EVIDENCE] * QUESTIONS
    with FlopCounterMode(display=False) as counted:
        read, _ = model.read_nll(*whole_document(model.z[:QUESTIONS]), queries, targets)
        rebuilt, _ = model.write_nll(*whole_document(model.z[4:6]), targets[:2], targets[:2])
        vectors = model.query_vectors(["a"] * QUESTIONS, queries)
        (read.mean() + rebuilt.mean() + model.router.scores(vectors, model.z).mean()).backward()
    own = costs.Llm(layers, hidden, heads, groups, 16, inner, llm.lm.config.vocab_size)
    step = costs.Step(QUESTIONS, SLOTS, QUERY, EVIDENCE, RANK)
    assert counted.get_total_flops() == pytest.approx(costs.step_flops(own, step, passes=2), rel=0.01)


def test_the_reference_llm_has_the_parameters_of_qwen3_8b(costs):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    own = costs.QWEN3_8B
    config = Qwen3Config(
        vocab_size=own.vocabulary,
        hidden_size=own.hidden,
        intermediate_size=own.inner,
        num_hidden_layers=own.layers,
        num_attention_heads=own.heads,
        num_key_value_heads=own.groups,
        head_dim=own.head_width,
    )
    with torch.device("meta"):
        lm = Qwen3ForCausalLM(config)
    linear = sum(p.numel() for name, p in lm.named_parameters() if "_proj" in name)
    assert own.linear == linear
    assert sum(p.numel() for p in lm.parameters()) == pytest.approx(8.19e9, rel=0.01)
