"""Several processes train the model that one would train."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import group_target
import pytest
import torch
from safetensors.torch import load_file
from small_llm import save_small_qwen3

from zrag_core.errors import SettingsError
from zrag_core.model.training.process_group import ALONE, ProcessGroup
from zrag_core.settings import BackboneSettings, load_settings
from zrag_core.settings.backbone import LoraSettings

JOINT = {
    "joint": {},
    "joint, accumulated": {"batch_size": 2, "gradient_accumulation": 3, "query_mask": 0.5, "wrong_reads": 0.5},
    "joint, router alone": {"evidence_weight": 0.0, "reconstruction_weight": 0.0},
}
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
NAMES = (*JOINT, "joint, adapter", "skill")


@pytest.fixture(scope="module")
def both(settings, skill_settings, documents, targets, tmp_path_factory):
    """What one process and what two came to under each of the settings: ((values, tensors), [of both processes])."""
    folder = tmp_path_factory.mktemp("묶음")
    several = [settings.model_copy(update={"joint": settings.joint.model_copy(update=own)}) for own in JOINT.values()]
    llm = save_small_qwen3(folder / "llm", [document.contents for document in documents], **SHAPE)
    adapted = BackboneSettings(name=str(llm), dtype="float32", threads=1, lora=LoraSettings(rank=4, dropout=0.0))
    several += [settings.model_copy(update={"backbone": adapted}), skill_settings]
    split = [replace(target, split="dev") if target.id == "q0" else target for target in targets]
    given = group_target.describe(documents, split, several)
    (folder / "given.json").write_text(given, "utf-8")
    launch = "--num_processes 2 --num_machines 1 --multi_gpu --main_process_port 0 --mixed_precision no".split()
    launch += ["--dynamo_backend", "no", "-m", group_target.__name__, str(folder)]
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *launch],
        env=os.environ | {"PYTHONPATH": here, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=120,
    )
    found = {}
    for number, (name, one) in enumerate(zip(NAMES, group_target.train_all(given), strict=True)):
        files = [folder / f"{number}-{rank}" for rank in (0, 1)]
        two = [(json.loads(Path(f"{f}.json").read_text()), load_file(f"{f}.safetensors")) for f in files]
        found[name] = one, two
    return found


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_have_the_losses_of_one(both, name):
    (one, _), ((two, _), (silent, _)) = both[name]
    assert (one["size"], two["size"]) == (1, 2)
    assert len(one["losses"]) == len(two["losses"]) == 6
    for alone, shared in zip(one["losses"], two["losses"], strict=True):
        assert shared == pytest.approx(alone, rel=1e-5)
    assert one["losses"][0] != pytest.approx(one["losses"][-1], rel=1e-3)
    assert silent["losses"] == []
    assert silent["dev_loss"] == two["dev_loss"]
    if name != "skill":
        assert two["dev_loss"] == pytest.approx(one["dev_loss"], rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_end_with_the_model_of_one(both, name):
    (_, one), ((_, two), (_, other)) = both[name]
    assert set(one) == set(two)
    for key, value in one.items():
        assert torch.equal(two[key], other[key]), f"{key} is the same in all processes, to the bit"
        off = (two[key] - value).abs().max()
        assert off < (2e-3 if name == "skill" else 3e-5), f"{key}: {off}"  # Muon multiplies in bfloat16


def test_every_item_is_one_process_own_and_another_comes_first_at_every_turn():
    items = list("abcdefg")
    for size in (1, 2, 3, 8):
        group = [ProcessGroup(rank, size) for rank in range(size)]
        for turn in range(4):
            parts = [each.own(items, turn) for each in group]
            assert sorted(item for part in parts for item in part) == items
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
            assert parts[turn % size][0] == "a"


def test_one_process_changes_nothing():
    model = torch.nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    model.bias.grad = None
    before = model.weight.grad.clone()
    ALONE.add_gradients(model.parameters())
    assert torch.equal(model.weight.grad, before)
    assert model.bias.grad is None
    assert ALONE.add({"a": 1.5}) == {"a": 1.5}
    assert ALONE.own([1, 2], turn=3) == [1, 2]


def test_each_process_has_a_query_of_every_batch():
    with pytest.raises(SettingsError, match=r"joint: processes 5 are more than batch_size 4") as caught:
        load_settings({"joint": {"processes": 5, "batch_size": 4}})
    assert "\n" not in str(caught.value)
    assert load_settings({"joint": {"processes": 4, "batch_size": 4}}).joint.processes == 4
