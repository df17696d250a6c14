"""Slots that are optimised for one text alone: what a frozen LLM reads from them."""

import pytest
import torch

from zrag_core.model.store.skill_folder import load_skill, shipped_skill
from zrag_core.model.training.fixed_slots import optimise_slots

TEXTS = ("Orla Venn was born in Tessamor.", "The mill of Numa grinds rye for villages.", "Seven bees live on the hill.")


@pytest.fixture(scope="module")
def backbone():
    return load_skill(shipped_skill(), device="cpu").model.backbone


def test_a_text_follows_its_own_slots_and_no_others(backbone):
    encoded = [backbone.encode(text) for text in TEXTS]
    texts = torch.tensor([ids[: min(map(len, encoded))] for ids in encoded])
    before = {name: value.clone() for name, value in backbone.lm.state_dict().items()}
    found = optimise_slots(backbone, texts, slots=4, width=64, steps=150, log=lambda line: None)
    assert found.own > 0.6
    assert found.own > max(found.other, found.nothing) + 0.2
    assert found.other - found.nothing < 0.3, "another text's slots say another text"
    assert 0.0 <= found.greedy <= found.own
    for name, value in backbone.lm.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_greedy_text_ends_at_its_first_mistake(backbone, monkeypatch):
    texts = torch.tensor([[5, 6, 7, 8], [9, 9, 9, 9]])
    said = torch.tensor([[5, 6, 1, 8], [9, 9, 9, 9]])
    logits = torch.nn.functional.one_hot(said, 16).float()
    monkeypatch.setattr("zrag_core.model.training.fixed_slots._logits", lambda *_: logits.requires_grad_() + 0)
    monkeypatch.setattr("zrag_core.model.training.fixed_slots._BATCH", 2)
    found = optimise_slots(backbone, texts, slots=1, width=4, steps=0, log=lambda line: None)
    assert (found.own, found.greedy) == (7 / 8, (2 + 4) / 8)
