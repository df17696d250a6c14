"""Greedy decoding from drafts: the text is that of decoding token by token, whatever the draft says."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zrag_core.model.architecture.network import Prompt
from zrag_core.model.inference.speculative import follow_drafts
from zrag_core.settings import BackboneSettings, LoraSettings


class Reader:
    """The part of a memory model that decoding needs."""

    def __init__(self, backbone):
        self.backbone, self.lm, self.device = backbone, backbone.lm, torch.device("cpu")


@pytest.fixture
def reader(qwen3_folder):
    from zrag_core.model.architecture.create_backbone import create_backbone

    settings = BackboneSettings(name=str(qwen3_folder), dtype="float32", lora=LoraSettings(rank=2, alpha=2))
    backbone = create_backbone(settings, (), seed=0)
    backbone.lm.eval()
    return Reader(backbone)


def prompts(reader, lengths):
    width = max(lengths)
    embeds = torch.randn(len(lengths), width, 64, generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(width)[None] >= width - torch.tensor(lengths)[:, None]).long()
    return Prompt(embeds * mask[..., None], mask, (mask.cumsum(1) - 1).clamp(min=0))


@torch.no_grad()
def token_by_token(reader, prompt, row, most, least=0):
    backbone, written = reader.backbone, []
    start = prompt.embeds[row : row + 1][:, prompt.mask[row].bool()]
    while len(written) < most:
        ids = torch.tensor([written], dtype=torch.long)
        embeds = torch.cat([start, backbone.embed(ids)], 1) if written else start
        logits = backbone.logits(backbone.hidden(embeds, torch.ones(embeds.shape[:2], dtype=torch.long))[:, -1])
        if len(written) < least:
            logits[:, backbone.eos_id] = -torch.inf
        token = int(logits.argmax())
        if token == backbone.eos_id:
            break
        written.append(token)
    return written


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 250), max_size=12), min_size=1, max_size=4), st.integers(1, 14), st.booleans())
def test_the_text_is_that_of_greedy_decoding(reader, drafts, most, never_empty):
    prompt = prompts(reader, [2 + 3 * n for n in range(len(drafts))])
    rows = range(len(drafts))
    wanted = [reader.backbone.decode(token_by_token(reader, prompt, row, most, int(never_empty))) for row in rows]
    assert follow_drafts(reader, prompt, drafts, most, int(never_empty)) == wanted


def test_a_right_draft_takes_one_pass(reader, monkeypatch):
    prompt = prompts(reader, [5])
    right = token_by_token(reader, prompt, 0, 10)
    text = reader.backbone.decode(right)
    passes = []
    hidden = reader.backbone.hidden
    monkeypatch.setattr(type(reader.backbone), "hidden", lambda self, *given: passes.append(1) or hidden(*given))
    assert follow_drafts(reader, prompt, [right], 10) == [text]
    few = len(passes)
    assert follow_drafts(reader, prompt, [[]], 10) == [text]
    assert few == 1
    assert len(passes) - few > 1
