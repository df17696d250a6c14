"""The light decoder is the library's model: hidden states, logits, tokens and whole replies, by comparison."""

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_fixtures import DOCUMENTS, QUESTIONS, checkpoint_of

from zrag_core.model.architecture.create_backbone import create_backbone, load_backbone
from zrag_core.model.architecture.light_decoder import LightDecoder, can_read
from zrag_core.model.architecture.mean_states import first_layers, states_behind
from zrag_core.model.architecture.packaged_llms import SMOLLM2
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.store.checkpoint import checkpoint_digest, load_checkpoint, save_checkpoint
from zrag_core.model.store.skill_folder import load_skill, shipped_skill
from zrag_core.model.store.write import write_documents
from zrag_core.settings import BackboneSettings, WritingSettings, load_settings

SHIPPED = BackboneSettings(name="zrag-tiny", device="cpu")


@pytest.fixture(scope="module")
def both():
    """The shipped backbone, light and as transformers loads it."""
    light, whole = (load_backbone(SHIPPED, shipped_skill(), verbatim=verbatim) for verbatim in (True, False))
    assert isinstance(light.lm, LightDecoder)
    assert not isinstance(whole.lm, LightDecoder)
    return light, whole


@torch.no_grad()
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 40), st.booleans(), st.integers(0, 2**20))
def test_hidden_states_are_the_librarys_under_every_mask(both, batch, length, square, seed):
    generator = torch.Generator().manual_seed(seed)
    light, whole = both
    embeds = light.embed(torch.randint(3, 3072, (batch, length), generator=generator))
    if square:  # who sees whom, itself always among them
        mask = torch.rand(batch, 1, length, length, generator=generator) < 0.4
        mask |= torch.eye(length, dtype=torch.bool)
        places = torch.randint(0, 3000, (batch, length), generator=generator)
        real = torch.ones(batch, length, dtype=torch.bool)
    else:  # padding on the left and on the right
        ends = torch.randint(0, length, (batch, 2), generator=generator).sort(1).values
        steps = torch.arange(length)
        real = (steps >= ends[:, :1]) & (steps <= ends[:, 1:])
        mask, places = real.long(), None
    found, expected = (backbone.hidden(embeds, mask, places) for backbone in (light, whole))
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(light.logits(found[real]), whole.logits(expected[real]), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("text", ["", "Where was Orla Venn born?", "한소라는 바람골에서 태어났다.", "<eos> a\n\n b🙂"])
def test_tokens_are_the_librarys(both, text):
    light, whole = both
    ids = light.encode(text)
    assert ids == whole.encode(text)
    assert light.decode([*ids, light.eos_id]) == whole.decode([*ids, whole.eos_id])
    assert (light.pad_id, light.eos_id, light.mask_id) == (whole.pad_id, whole.eos_id, whole.mask_id)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A Llama model of random weights as transformers saves it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8}
    lm = LlamaForCausalLM(LlamaConfig(vocab_size=200, tie_word_embeddings=True, **shape, **heads))
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # norms too
    lm.save_pretrained(folder)
    return folder


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_llama_model_is_read_as_the_library_reads_it(llama, dtype):
    from transformers import AutoModelForCausalLM

    assert can_read(llama)
    whole = AutoModelForCausalLM.from_pretrained(llama, dtype=dtype)
    light = LightDecoder.load(llama, dtype)
    ids = torch.randint(0, 200, (3, 17), generator=torch.Generator().manual_seed(1))
    real = torch.ones_like(ids)
    real[0, 9:] = real[1, :4] = 0
    for n in (3, 2):
        layers = [1, n]
        found = []
        for lm in (light, whole):
            part = first_layers(lm.base_model, n)
            with states_behind(part, layers) as kept:
                last = part(input_ids=ids, attention_mask=real, use_cache=False).last_hidden_state
            found.append([last, *(kept[layer] for layer in layers)])
        for own, expected in zip(*found, strict=True):
            seen = real.bool()
            scale = float(expected[seen].float().square().mean().sqrt())
            error = (own[seen].float() - expected[seen].float()).abs().max() / scale
            assert float(error) < (1e-5 if dtype == torch.float32 else 0.1)
            assert own.dtype == expected.dtype


@pytest.mark.skipif(not SMOLLM2.is_available(), reason=f"needs SmolLM2: {SMOLLM2.install}")
def test_smollm2_says_the_same_without_transformers(tmp_path):
    skill = load_skill(shipped_skill("smollm2"), device="cpu")
    made = write_documents(skill.model, DOCUMENTS, (), WritingSettings(steps=0))
    skill.model.remember(DOCUMENTS, made.z, made.spans)
    save_checkpoint(tmp_path / "m", skill.model, DOCUMENTS, skill.settings, checkpoint_id="m", metrics={})
    found = []
    for verbatim in (True, False):
        checkpoint = load_checkpoint(tmp_path / "m", device="cpu", verbatim=verbatim)
        assert isinstance(checkpoint.model.lm, LightDecoder) == verbatim
        save_checkpoint(
            tmp_path / str(verbatim), checkpoint.model, DOCUMENTS, skill.settings, checkpoint_id="m", metrics={}
        )
        decoding = checkpoint.settings.decoding.model_copy(update={"steps": 1})
        found.append(create_system("zrag", checkpoint, decoding, threads=1).retrieve(QUESTIONS))
    for light, whole in zip(*found, strict=True):
        assert light.document_ids == whole.document_ids
        assert light.segments[0].text == whole.segments[0].text
        assert light.confidence == pytest.approx(whole.confidence, abs=0.02)
    assert checkpoint_digest(tmp_path / "True") == checkpoint_digest(tmp_path / "False")


def test_whole_replies_are_the_librarys(written_memory):
    questions = ["Where was Orla Venn born?", "한소라는 어디에서 태어났나?", "Who keeps seven bees?"]
    read = []
    for verbatim in (True, False):
        checkpoint = load_checkpoint(written_memory, device="cpu", verbatim=verbatim)
        assert isinstance(checkpoint.model.lm, LightDecoder) == verbatim
        system = create_system("zrag", checkpoint, checkpoint.settings.decoding, threads=1)
        read.append(system.candidates(questions))
    for (segments, features, known), (others, expected, sure) in zip(*read, strict=True):
        assert segments == others
        torch.testing.assert_close(features, expected, atol=1e-2, rtol=1e-3)
        torch.testing.assert_close(known, sure, atol=1e-2, rtol=1e-3)


def test_joint_memories_are_read_as_the_library_does(tmp_path):
    """Their sentences are ranked by likelihood, which goes through the LM head."""
    made = checkpoint_of("joint", tmp_path)
    save_checkpoint(tmp_path / "j", made.model, DOCUMENTS, made.settings, checkpoint_id="j", metrics={})
    found = []
    for verbatim in (True, False):
        checkpoint = load_checkpoint(tmp_path / "j", device="cpu", verbatim=verbatim)
        found.append(create_system("zrag_joint", checkpoint, made.settings.decoding, threads=1).retrieve(QUESTIONS))
    for light, whole in zip(*found, strict=True):
        assert light.document_ids == whole.document_ids
        assert [s.text for s in light.segments] == [s.text for s in whole.segments]
        assert [s.score for s in light.segments] == pytest.approx([s.score for s in whole.segments], abs=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "gemma3_text"},
        {"tie_word_embeddings": False},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"use_sliding_window": True},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}},
    ],
    ids=str,
)
def test_other_models_are_left_to_the_library(change, tmp_path):
    values = json.loads((shipped_skill() / "backbone" / "config.json").read_text())
    (tmp_path / "model.safetensors").touch()
    for config, expected in ((values, True), ({**values, **change}, False)):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert can_read(tmp_path) is expected


def test_other_precisions_are_left_to_the_library():
    other = SHIPPED.model_copy(update={"dtype": "bfloat16"})
    assert not isinstance(load_backbone(other, shipped_skill(), verbatim=True).lm, LightDecoder)


@torch.no_grad()
@pytest.mark.parametrize(("heads", "layers"), [(2, 1), (8, 3)])
def test_any_size_that_is_made_here_can_be_read(tmp_path, heads, layers):
    tiny = {"hidden_size": 64, "layers": layers, "heads": heads, "vocabulary": 300}
    own = load_settings({"backbone": {"tiny": tiny, "device": "cpu"}}).backbone
    made = create_backbone(own, ["Some words. 낱말 몇 개."], seed=1)
    made.save(tmp_path)
    light = load_backbone(own, tmp_path, verbatim=True)
    assert isinstance(light.lm, LightDecoder)
    ids = torch.tensor([light.encode("Some words.")])
    mask = torch.ones_like(ids)
    torch.testing.assert_close(
        light.hidden(light.embed(ids), mask), made.hidden(made.embed(ids), mask), atol=1e-4, rtol=1e-4
    )


def test_a_memory_opens_without_transformers_and_without_the_compiler(written_memory):
    code = (
        "import sys; from zrag_core.memory import Memory; memory = Memory.open(sys.argv[1], threads=1); "
        "heavy = ('transformers', 'torch._dynamo', 'peft'); "
        "print(memory.ask(['Where was Orla Venn born?'])[0].sources[0].text, [n for n in heavy if n in sys.modules]); "
        "print(bool(memory.ask(['Where was Orla Venn born?'], free=True)[0].evidence), 'transformers' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(written_memory)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.stdout == "Orla Venn was born in Tessamor. []\nTrue True\n", result.stderr
