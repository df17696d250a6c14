import json
import random

import pytest
import torch
from memory_fixtures import slots_of

from zrag_core.corpus.types import Document
from zrag_core.errors import CheckpointError
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.store.skill_folder import load_heads, load_skill, read_skill_config, save_skill


@pytest.fixture
def folder(writer, skill_settings, tmp_path):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # nothing may keep its first value, or loading it would show nothing
        for parameter in writer.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in writer.named_buffers():
            if name in ("ranking", "confidence"):
                buffer.add_(1.0)
    path = tmp_path / "skill"
    save_skill(path, writer, skill_settings, skill_id="s1", metrics={"steps": 6}, card="# 기억\n")
    return path


def _loaded(folder):
    return load_skill(folder, device="cpu")


@torch.no_grad()
def test_a_loaded_skill_writes_routes_and_reads_as_it_did(folder, writer, documents, targets):
    skill = _loaded(folder)
    loaded = skill.model
    assert skill.id == "s1"
    assert not loaded.training
    assert (loaded.n_documents, loaded.shape[2]) == (0, 24), "no document is in it"
    results = []
    for model in (writer, loaded):
        encode, eos = model.backbone.encode, model.backbone.eos_id
        z, spans = model.encode([sentence_ids(model.backbone, document.text) for document in documents])
        model.remember(documents, z, spans)
        texts = [target.query for target in targets]
        queries, evidence = [encode(text) for text in texts], [[*encode(target.evidence), eos] for target in targets]
        routing, found = model.routing_scores(texts, queries), model.span_logits(queries[:5], z, spans)
        prefix = slots_of(z[0], spans[0], 1)
        read, written = model.read_nll(*prefix, queries[:1], evidence[:1]), model.write_nll(*prefix, [[9]], [[9]])
        results.append((z, spans, routing, found, read[0], written[0]))
    for before, after in zip(*results, strict=True):
        assert torch.equal(before, after)
    assert results[0][2].shape == (len(targets), 6)


def test_every_tensor_of_theta_is_kept_and_none_of_a_document(folder, remembering, skill_settings, documents, tmp_path):
    loaded = _loaded(folder).model
    wanted, found = remembering.state_dict(), loaded.state_dict()
    assert set(wanted) == set(found)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    # The one that remembers documents gives the very same files as the one that does not.
    save_skill(tmp_path / "again", remembering, skill_settings, skill_id="s1", metrics={"steps": 6}, card="# 기억\n")
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_skill_is_json_text_and_safetensors(folder):
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".md", ".safetensors", ".jinja"}
    assert (folder / "README.md").read_text(encoding="utf-8") == "# 기억\n"
    assert json.loads((folder / "metrics.json").read_text()) == {"steps": 6}


def test_the_device_of_training_is_not_kept(folder):
    assert "device" not in read_skill_config(folder)["settings"]["backbone"]


def test_loading_leaves_no_trace_of_chance(folder):
    first, second = _loaded(folder).model.state_dict(), _loaded(folder).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_saving_again_replaces_the_skill(folder, writer, skill_settings):
    save_skill(folder, writer, skill_settings, skill_id="s2", metrics={}, card="")
    assert read_skill_config(folder)["skill_id"] == "s2"


def _edit_config(change):
    def damage(folder):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def _cut(name):
    def damage(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def _without(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_text("[]"),
        lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{}"),
        _edit_config(lambda config: config.pop("settings")),
        _edit_config(lambda config: config["settings"].pop("backbone")),
        _edit_config(lambda config: config["settings"].update(memory=None)),
        _edit_config(lambda config: config["settings"]["memory"].update(unheard_of=1)),
        _edit_config(lambda config: config["settings"]["memory"].update(width=25)),
        _edit_config(lambda config: config["settings"]["memory"].update(policy="joint")),
        _cut("heads.safetensors"),
        _without("heads.safetensors"),
        _cut("backbone/model.safetensors"),
        _without("backbone/model.safetensors"),
        _without("backbone/config.json"),
        _cut("tokenizer/tokenizer.json"),
        _without("tokenizer/tokenizer.json"),
    ],
    ids=[
        "broken JSON",
        "a list",
        "not UTF-8",
        "no settings",
        "no backbone settings",
        "null settings",
        "an unknown setting",
        "another width",
        "another policy",
        "half the heads",
        "no heads",
        "half the backbone",
        "no backbone",
        "no backbone config",
        "half a tokenizer",
        "no tokenizer",
    ],
)
def test_a_damaged_skill_is_one_clear_line(folder, damage):
    damage(folder)
    with pytest.raises(CheckpointError, match="the skill is damaged") as caught:
        _loaded(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "pretrain_tiny" in str(caught.value)


def test_no_skill_and_a_skill_of_another_version(folder, tmp_path):
    with pytest.raises(CheckpointError, match="no skill here"):
        _loaded(tmp_path / "nowhere")
    _edit_config(lambda config: config.update(format_version=99))(folder)
    with pytest.raises(CheckpointError, match=r"format version 99 is not \d"):
        _loaded(folder)


def test_heads_of_another_model_are_named(writer):
    state = writer.head_state()
    missing = {name: value for name, value in state.items() if name != "markers"}
    with pytest.raises(ValueError, match=r"heads do not fit the model: markers$"):
        load_heads(writer, missing)
    with pytest.raises(ValueError, match=r"heads do not fit the model: stranger$"):
        load_heads(writer, {**state, "stranger": torch.zeros(1)})
    load_heads(writer, state)


@torch.no_grad()
def test_a_document_written_later_has_the_slots_that_it_would_have_had(folder):
    text = " ".join(random.Random(0).choices("서린도는 Orla Venn bees 등대 keeps".split(), k=30))
    new = Document("n", "New", text)
    rows = []
    for n in (0, 7):
        model = _loaded(folder).model
        model.remember([Document(f"e{i}", "", "") for i in range(n)], torch.zeros(n, 4, 24), torch.zeros(n, 4))
        rows.append(model.encode([sentence_ids(model.backbone, new.text)])[0])
    assert torch.equal(*rows)


def test_a_second_set_of_judging_weights_is_saved_and_taken_where_it_is_asked_for(tmp_path, writer, skill_settings):
    other = {"ranking": torch.full_like(writer.ranking, 0.25), "router.null_score": torch.tensor(3.0)}
    writer.everyday = other
    save_skill(tmp_path / "both", writer, skill_settings, skill_id="s1", metrics={}, card="")
    own, everyday = (load_skill(tmp_path / "both", device="cpu", everyday=given).model for given in (False, True))
    assert torch.equal(own.ranking, writer.ranking)
    assert torch.equal(everyday.ranking, other["ranking"])
    assert everyday.router.null_score.item() == 3.0
    assert torch.equal(everyday.projection.weight, own.projection.weight)


def test_a_skill_without_a_second_set_has_its_own_either_way(folder):
    assert torch.equal(load_skill(folder, device="cpu", everyday=True).model.ranking, _loaded(folder).model.ranking)
