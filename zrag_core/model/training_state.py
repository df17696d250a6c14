"""Resumable optimiser state: safetensors for the tensors, JSON for the rest, replaced as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from zrag_core.files import atomic_folder


def save_state(
    folder: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, *, step: int, fingerprint: str
) -> None:
    """Write parameters, optimiser moments and the step; a crash leaves the former state in place."""
    from safetensors.torch import save_file

    names = {id(parameter): name for name, parameter in parameters.items()}
    tensors = {f"parameter/{name}": parameter.detach().contiguous() for name, parameter in parameters.items()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer/{names[id(parameter)]}/{key}"] = torch.as_tensor(value).contiguous()
    with atomic_folder(folder) as temporary:
        save_file(tensors, temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step, "fingerprint": fingerprint}))


def load_state(
    folder: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, *, fingerprint: str
) -> int:
    """Restore what `save_state` wrote and return the step to go on from; 0 where there is nothing to resume.

    A state of other settings, corpus or code (another fingerprint) is left alone and not used.
    """
    from safetensors.torch import load_file

    if not (folder / "state.json").is_file():
        return 0
    saved = json.loads((folder / "state.json").read_text())
    if saved["fingerprint"] != fingerprint:
        return 0
    tensors = load_file(folder / "state.safetensors")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"parameter/{name}"])
    for name, parameter in parameters.items():
        prefix = f"optimizer/{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            # torch keeps Adam's step counter on the CPU and the moments beside the parameter.
            optimizer.state[parameter] = {
                key: value if value.dim() == 0 else value.to(parameter.device) for key, value in state.items()
            }
    return saved["step"]
