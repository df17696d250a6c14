"""LLMs out of packages: what is absent or changed is one clear line, and nothing is converted then."""

import importlib.util
from dataclasses import replace
from types import SimpleNamespace

import pytest
from small_llm import save_small_qwen3

from zrag_core.errors import SettingsError
from zrag_core.model.architecture.create_backbone import load_backbone
from zrag_core.model.architecture.packaged_llms import GEMMA3, PACKAGED, SMOLLM2, location_of
from zrag_core.settings import BackboneSettings, backbone


@pytest.fixture(params=PACKAGED.values(), ids=PACKAGED)
def llm(request, tmp_path, monkeypatch):
    """One of them, with stand-ins for its packages whose files hold other weights."""
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "data"))
    for module, name in request.param.parts:
        file = tmp_path / module / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"other weights")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / name / "__init__.py"))
    )
    return request.param


def test_other_weights_are_refused(llm, tmp_path):
    with pytest.raises(SettingsError, match=rf"weights of '{llm.name}' are not those that were tested .* -> run `make"):
        location_of(llm.name)
    assert not (tmp_path / "data").exists()


def test_a_package_without_its_file_is_refused(llm, tmp_path):
    module, name = llm.parts[-1]
    (tmp_path / module / name).unlink()
    with pytest.raises(SettingsError, match=f"{module} has no file {name.rpartition('/')[2]}"):
        llm.model_folder()


@pytest.mark.parametrize(("llm", "target"), [(SMOLLM2, "smollm2"), (GEMMA3, "gemma3")])
def test_absent_packages_are_named_with_the_remedy(monkeypatch, tmp_path, llm, target):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not llm.is_available()
    with pytest.raises(SettingsError, match=rf"not installed -> run `make {target}`"):
        llm.model_folder()


def test_parts_are_put_together_in_their_order(llm, tmp_path):
    import hashlib

    for number, (module, name) in enumerate(llm.parts):
        (tmp_path / module / name).write_bytes(str(number).encode())
    whole = "".join(map(str, range(len(llm.parts)))).encode()
    own = replace(llm, sha256=hashlib.sha256(whole).hexdigest())
    assert own._weights(tmp_path).read_bytes() == whole


def test_settings_know_their_names():
    assert tuple(PACKAGED) == backbone.PACKAGED


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("verbatim", [True, False])
def test_a_damaged_conversion_names_its_folder_and_not_the_checkpoint(tmp_path, monkeypatch, file, verbatim):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path))
    folder = save_small_qwen3(SMOLLM2._folder(), ["a few words"])
    (folder / file).write_bytes(b"{ damaged")
    with pytest.raises(SettingsError, match=rf"{folder.name}: the converted model .* -> delete this folder"):
        load_backbone(BackboneSettings(name="smollm2"), tmp_path, verbatim=verbatim)


def test_what_is_no_packaged_llm_is_left_to_transformers():
    assert location_of("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
