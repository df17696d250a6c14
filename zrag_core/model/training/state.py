"""Resumable optimiser state: safetensors for the tensors, JSON for the rest, replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from zrag_core.files import atomic_folder


@dataclass(frozen=True, slots=True)
class SavedProgress:
    """Where a saved run stands: steps done, running mean losses, seconds of training so far, level of a curriculum."""

    step: int
    losses: dict[str, float]
    seconds: float
    level: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training run changes.

    Attributes:
        parameters: by name.
        optimizers: of these parameters.
        fingerprint: identifies the training by all that its result depends on.
    """

    parameters: dict[str, nn.Parameter]
    optimizers: Sequence[torch.optim.Optimizer]
    fingerprint: str


def save_state(folder: Path, trained: Trained, progress: SavedProgress) -> None:
    """Write parameters, optimiser moments and progress; a crash leaves the former state in place."""
    from safetensors.torch import save_file

    names = {id(parameter): name for name, parameter in trained.parameters.items()}
    tensors = {f"parameter/{name}": parameter.detach().contiguous() for name, parameter in trained.parameters.items()}
    for parameter, state in (item for optimizer in trained.optimizers for item in optimizer.state.items()):
        for key, value in state.items():
            tensors[f"optimizer/{names[id(parameter)]}/{key}"] = torch.as_tensor(value).contiguous()
    with atomic_folder(folder) as temporary:
        save_file(tensors, temporary / "state.safetensors")
        values = {**asdict(progress), "fingerprint": trained.fingerprint}
        (temporary / "state.json").write_text(json.dumps(values))


def load_state(folder: Path, trained: Trained) -> SavedProgress:
    """Restore what `save_state` wrote and return where to go on; step 0 where there is nothing to resume.

    A state of other settings, corpus or code (another fingerprint) is left alone and not used.
    """
    from safetensors.torch import load_file

    fresh = SavedProgress(0, {}, 0.0)
    if not (folder / "state.json").is_file():
        return fresh
    saved = json.loads((folder / "state.json").read_text())
    if saved.pop("fingerprint") != trained.fingerprint:
        return fresh
    tensors = load_file(folder / "state.safetensors")
    with torch.no_grad():
        for name, parameter in trained.parameters.items():
            parameter.copy_(tensors[f"parameter/{name}"])
    owners = {id(p): one for one in trained.optimizers for group in one.param_groups for p in group["params"]}
    for name, parameter in trained.parameters.items():
        prefix = f"optimizer/{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            # torch keeps Adam's step counter on the CPU and the moments beside the parameter.
            owners[id(parameter)].state[parameter] = {
                key: value if value.dim() == 0 else value.to(parameter.device) for key, value in state.items()
            }
    return SavedProgress(**saved)
