"""A trained LoRA adapter, added into the weights without PEFT.

PEFT imports bitsandbytes wherever that is installed, and with it PyTorch's compiler: seconds of every start, for one
sum. It stays what adapters are trained with, and what 4-bit weights need.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."  # what PEFT puts before the names of modules
_EXTRAS = (
    "use_dora",
    "use_rslora",
    "use_qalora",
    "lora_bias",
    "fan_in_fan_out",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
)
"""With any of these, the product of two matrices is not all that an adapter adds."""


@dataclass(frozen=True, slots=True)
class MergedAdapter:
    """The files of an adapter whose sum is in the weights already.

    Attributes:
        files: content by name, as PEFT wrote them.
    """

    files: Mapping[str, bytes]

    def save(self, folder: Path) -> None:
        """Write the files as they were."""
        folder.mkdir(parents=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def merge_adapter(lm: nn.Module, folder: Path) -> MergedAdapter | None:
    """Add the adapter in `folder` into the weights of `lm` in place; None where only PEFT can.

    Raises:
        OSError: a file is missing.
        ValueError: a file is damaged, or the adapter is another model's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    files = {name: (folder / name).read_bytes() for name in (_CONFIG, _WEIGHTS)}
    config = json.loads(files[_CONFIG])
    if (config["peft_type"], config["bias"]) != ("LORA", "none") or any(config.get(name) for name in _EXTRAS):
        return None
    try:
        tensors = load(files[_WEIGHTS])
    except SafetensorError as error:
        raise ValueError(f"{folder / _WEIGHTS}: {error}") from error
    scale = config["lora_alpha"] / config["r"]
    modules = dict(lm.named_modules())
    named = {name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")}
    if not named or len(tensors) != 2 * len(named):
        raise ValueError(f"{folder / _WEIGHTS} is no LoRA adapter of linear layers")
    for name in sorted(named):
        module = modules.get(name.removeprefix(_PREFIX))
        if not isinstance(module, nn.Linear) or f"{name}.lora_B.weight" not in tensors:
            raise ValueError(f"{folder / _WEIGHTS}: '{name}' is no linear layer of this model")
        down, up = (tensors[f"{name}.lora_{part}.weight"].float().to(module.weight.device) for part in "AB")
        if (up.shape[0], down.shape[1]) != tuple(module.weight.shape):
            raise ValueError(f"{folder / _WEIGHTS}: '{name}' has another shape than the model's layer")
        with torch.no_grad():
            module.weight += up @ down * scale  # rounded once, as PEFT does it
    return MergedAdapter(files)
