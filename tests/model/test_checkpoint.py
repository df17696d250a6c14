import json

import pytest
import torch
from memory_fixtures import everything_of

from zrag_core.corpus.types import Question
from zrag_core.errors import CheckpointError, SettingsError
from zrag_core.evidence import fill_budget
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.inference.decoder import reconstruct
from zrag_core.model.store.checkpoint import checkpoint_digest, load_checkpoint, save_checkpoint
from zrag_core.model.training.joint_training import train_joint

QUESTIONS = [
    Question("a", "Where was Orla Venn born?", ("Tessamor",), ("d0",)),
    Question("b", "How deep is Lake Munar?", ("ninety metres",), ("d2",)),
    Question("c", "서린도는 어디에 있나?", ("남쪽 바다",), ("d3",), language="ko"),
    Question("d", "What does Quill Works make?", ("steel pens",), ("d4",)),
]


@pytest.fixture
def folder(tmp_path, documents, targets, backbone, settings):
    longer = settings.model_copy(
        update={"joint": settings.joint.model_copy(update={"steps": 80, "batch_size": 8, "lr_theta": 5e-3})}
    )
    result = train_joint(documents, targets, backbone, longer)
    path = tmp_path / "checkpoint"
    save_checkpoint(path, result.model, documents, longer, checkpoint_id="joint-test", metrics={"steps": 80})
    return path


def test_a_checkpoint_reads_as_the_model_did(folder, documents, settings):
    checkpoint = load_checkpoint(folder)
    assert checkpoint.documents == documents
    constrained = create_system("zrag_joint", checkpoint, settings.decoding, threads=1).retrieve(QUESTIONS)
    by_id = {document.id: document for document in documents}
    for question, found in zip(QUESTIONS, constrained, strict=True):
        assert found.document_ids[0] == question.document_ids[0]
        assert len(found.document_ids) == len(documents)
        assert found.document_scores == tuple(sorted(found.document_scores, reverse=True))
        assert question.golden_answers[0] in fill_budget(found, 16).text
        assert len(found.segments) == 4  # every sentence of both routed documents
        for segment in found.segments:
            assert by_id[segment.document_id].text[segment.start : segment.end] == segment.text
    free = create_system("zrag_joint_free", checkpoint, settings.decoding, free=True, threads=1).retrieve(QUESTIONS)
    hits = sum(q.golden_answers[0] in found.text for q, found in zip(QUESTIONS, free, strict=True))
    assert hits >= 3
    assert all(found.segments == () for found in free)
    model = checkpoint.model
    rebuilt = [reconstruct(model, z, spans, 12) for z, spans in zip(*model.document_slots(), strict=True)]
    assert sum(document.title.split()[0] in text for document, text in zip(documents, rebuilt, strict=True)) >= 3


@torch.no_grad()
def test_a_written_memory_routes_and_reads_as_it_did(remembering, documents, skill_settings, tmp_path):
    save_checkpoint(tmp_path / "c", remembering, documents, skill_settings, checkpoint_id="w", metrics={})
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.settings.separated == skill_settings.separated
    expected, got = everything_of(remembering), everything_of(loaded.model)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert torch.equal(remembering.held.frequency, loaded.model.held.frequency)
    texts = [question.question for question in QUESTIONS]
    queries = [remembering.backbone.encode(text) for text in texts]
    assert torch.equal(remembering.routing_scores(texts, queries), loaded.model.routing_scores(texts, queries))


def test_a_joint_checkpoint_keeps_its_policy(model, documents, skill_settings, settings, tmp_path):
    # `zrag_joint` is trained beside a separated memory too: the settings of the run name the other policy.
    run = settings.model_copy(update={"memory": skill_settings.memory, "separated": skill_settings.separated})
    save_checkpoint(tmp_path / "c", model, documents, run, checkpoint_id="j", metrics={})
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.settings.memory == settings.memory
    assert loaded.settings.joint == settings.joint
    assert torch.equal(loaded.model.z, model.z)


def test_two_loads_are_identical_and_the_digest_is_of_the_bytes(folder):
    first, second = load_checkpoint(folder), load_checkpoint(folder)
    states = everything_of(first.model), everything_of(second.model)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    digest = checkpoint_digest(folder)
    (folder / "metrics.json").write_text("{}")
    assert checkpoint_digest(folder) == digest, "how long training took is no part of what was made"
    memory = folder / "memory.safetensors"
    memory.write_bytes(memory.read_bytes()[:-1] + b"\x7f")
    assert checkpoint_digest(folder) != digest


def test_only_json_and_safetensors(folder):
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".jsonl", ".safetensors", ".jinja"}


def test_a_changed_document_is_noticed(folder):
    file = folder / "documents.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace("Tessamor", "Elsewhere"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="document 'd0' does not match"):
        load_checkpoint(folder)


def _cut_documents(folder):
    lines = (folder / "documents.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "documents.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")


def _cut_tensors(folder):
    data = (folder / "memory.safetensors").read_bytes()
    (folder / "memory.safetensors").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    "damage",
    [
        _cut_documents,
        _cut_tensors,
        lambda folder: (folder / "heads.safetensors").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
    ],
    ids=["a document less", "half a tensor file", "no heads", "broken JSON"],
)
def test_a_damaged_checkpoint_is_one_clear_line(folder, damage):
    damage(folder)
    with pytest.raises(CheckpointError, match="the checkpoint is damaged") as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_missing_and_foreign_checkpoints(folder, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        load_checkpoint(tmp_path / "nowhere")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(CheckpointError, match="format version 99"):
        load_checkpoint(folder)


def test_rows_and_documents_must_match(model, documents, settings, tmp_path):
    with pytest.raises(CheckpointError, match="5 rows for 4 documents"):
        save_checkpoint(tmp_path / "c", model, documents[:4], settings, checkpoint_id="x", metrics={})
    assert not (tmp_path / "c").exists()


def _pretrained(settings, name, **backbone):
    update = {"name": str(name), "lora": {"rank": 4, "alpha": 8, "dropout": 0.1}, **backbone}
    values = settings.model_dump()
    values["backbone"] |= update
    return type(settings).model_validate(values)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_any_hugging_face_model_with_an_adapter(quantization, qwen3_folder, documents, targets, settings, tmp_path):
    chosen = _pretrained(settings, qwen3_folder, quantization=quantization)
    backbone = create_backbone(chosen.backbone, (), seed=0)
    kinds = {type(module).__name__ for module in backbone.lm.modules()}
    assert ("Linear4bit" in kinds) == (quantization == "nf4")
    base = {n: p.detach().clone() for n, p in backbone.lm.named_parameters() if "lora" not in n}
    result = train_joint(documents, targets, backbone, chosen)
    trained = dict(backbone.lm.named_parameters())
    assert all(torch.equal(base[name], trained[name]) for name in base), "the base model must stay frozen"
    assert any("lora_B" in name and p.abs().sum() > 0 for name, p in trained.items())
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, result.model, documents, chosen, checkpoint_id="q", metrics={})
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert not (folder / "backbone").exists()
    checkpoint = load_checkpoint(folder)
    before = create_system("a", _as_checkpoint(checkpoint, result.model), settings.decoding, threads=1)
    after = create_system("a", checkpoint, settings.decoding, threads=1)
    for old, new in zip(before.retrieve(QUESTIONS), after.retrieve(QUESTIONS), strict=True):
        assert new.document_ids == old.document_ids
        old_scores = {(s.document_id, s.start): s.score for s in old.segments}
        for segment in new.segments:
            assert segment.score == pytest.approx(old_scores[segment.document_id, segment.start], abs=0.05)
    free = create_system("b", checkpoint, settings.decoding, free=True, threads=1).retrieve(QUESTIONS)
    assert len(free) == len(QUESTIONS)


def _as_checkpoint(checkpoint, model):
    from dataclasses import replace

    return replace(checkpoint, model=model)


def test_a_model_that_cannot_be_had_is_one_clear_line(settings, tmp_path):
    chosen = _pretrained(settings, tmp_path / "missing")
    with pytest.raises(SettingsError, match=r"backbone\.name: cannot load the backbone") as caught:
        create_backbone(chosen.backbone, (), seed=0)
    assert "\n" not in str(caught.value)


def test_another_architecture_reads_alike(documents, targets, settings, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    from zrag_core.model.architecture.tokenizer import train_tokenizer

    tokenizer = train_tokenizer([document.contents for document in documents], 300)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    chosen = _pretrained(settings, tmp_path / "gpt2", lora={"rank": 4, "target_modules": ["c_attn"]})
    result = train_joint(documents, targets, create_backbone(chosen.backbone, (), seed=0), chosen)
    save_checkpoint(tmp_path / "checkpoint", result.model, documents, chosen, checkpoint_id="g", metrics={})
    found = create_system("a", load_checkpoint(tmp_path / "checkpoint"), settings.decoding, threads=1).retrieve(
        QUESTIONS
    )
    assert all(len(item.segments) == 4 for item in found)


def test_rescaled_logits_are_refused(settings, tmp_path):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from zrag_core.model.architecture.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["text"], 300)
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
    )
    Gemma2ForCausalLM(config).save_pretrained(tmp_path / "gemma")
    tokenizer.save_pretrained(tmp_path / "gemma")
    with pytest.raises(SettingsError, match="final_logit_softcapping"):
        create_backbone(_pretrained(settings, tmp_path / "gemma").backbone, (), seed=0)


def test_an_adapter_for_layers_that_do_not_exist(settings, qwen3_folder):
    chosen = _pretrained(settings, qwen3_folder, lora={"target_modules": ["nonsense"]})
    with pytest.raises(SettingsError, match="target_modules"):
        create_backbone(chosen.backbone, (), seed=0)
