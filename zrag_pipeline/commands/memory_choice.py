"""Which memory a command is about: the champion, or the checkpoint that was asked for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zrag_core.errors import CheckpointError
from zrag_core.settings import load_settings
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import read_champion, required_memory

if TYPE_CHECKING:
    from zrag_core.answering.types import Reader
    from zrag_core.memory import Memory

_SHOWN = 5


@dataclass(frozen=True)
class MemoryChoice:
    """A checkpoint folder, and how it is to be read.

    Attributes:
        decoding: fields of the settings section `decoding`; None: the checkpoint's own.
        device: where the model runs.
    """

    folder: Path
    decoding: dict[str, Any] | None
    device: str


def add_memory_option(parser: argparse._ActionsContainer) -> None:
    """Add `--memory` to a command."""
    parser.add_argument(
        "--memory", metavar="NAME", help="which memory (default: the one ingested last; `zrag status` lists them)"
    )


def add_checkpoint_option(parser: argparse.ArgumentParser) -> None:
    """Add `--memory` and `--checkpoint` to a command."""
    group = parser.add_mutually_exclusive_group()
    add_memory_option(group)
    group.add_argument(
        "--checkpoint",
        metavar="ID",
        help="id or folder of another one than the champion (`zrag checkpoints` lists them)",
    )


def choose_memory(checkpoint: str | None, memory: str | None = None) -> MemoryChoice:
    """Return the checkpoint with this id or folder, or for None the champion of a memory, else of the default one.

    Raises:
        CheckpointError: there is no such checkpoint, or no champion yet.
    """
    if checkpoint is None:
        champion = read_champion(required_memory(memory))
        if champion is None:
            raise CheckpointError(
                "there is no memory to ask yet",
                remedy="`zrag ingest FOLDER` makes one of your documents, `make demo` one of built-in ones",
            )
        return MemoryChoice(champion.folder, champion.decoding, champion.backbone_device)
    known = paths.data_path() / "checkpoints"
    for folder in (known / checkpoint, Path(checkpoint).expanduser()):
        if (folder / "config.json").is_file():
            return MemoryChoice(folder, None, "auto")
    ids = sorted(folder.parent.name for folder in known.glob("*/config.json"))
    shown = ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more in {known}" if len(ids) > _SHOWN else "")
    raise CheckpointError(
        f"there is no checkpoint '{checkpoint}'", remedy=f"known: {shown}" if ids else "`make demo` builds one"
    )


def open_memory(
    choice: MemoryChoice, reader: Reader | None, least_confidence: float | None, device: str | None = None
) -> Memory:
    """Open a memory as it is to be read.

    Args:
        reader: who answers from the evidence; None: nobody.
        least_confidence: where refusal begins; None: as the memory was promoted.
        device: where the model runs; None: where it did when it was promoted.
    """
    from zrag_core.memory import Memory

    return Memory.open(
        choice.folder,
        decoding=None if choice.decoding is None else load_settings({"decoding": choice.decoding}).decoding,
        least_confidence=least_confidence,
        device=device or choice.device,
        reader=reader,
    )
