"""`zrag champion`: which checkpoint people ask, and its predecessors."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from zrag_core.errors import CheckpointError
from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.commands.memory_choice import add_memory_option
from zrag_pipeline.platform.champion_file import Champion, read_champion, read_champions, required_memory

_SHOWN = ("checkpoint_id", "corpus", "corpus_version", "promoted_at", "reason", "folder")


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "champion",
        run,
        summary="say which checkpoint is asked, since when and why",
        description="Print the champion, the checkpoint that `zrag ask` reads, and its predecessors.",
        examples=["zrag champion", "zrag champion --json"],
    )
    add_memory_option(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def run(arguments: argparse.Namespace) -> int:
    """Print the champion and the ones before."""
    name = required_memory(arguments.memory)
    champion = read_champion(name)
    if champion is None:
        raise CheckpointError(
            "there is no champion yet", remedy="run `make demo`, or make one by hand: zrag promote CHECKPOINT"
        )
    former = read_champions(name)[1:]
    if arguments.json:
        print(json.dumps({**_values(champion), "former": [_values(item) for item in former]}, ensure_ascii=False))
        return 0
    print(f"champion:  {champion.checkpoint_id}")
    print(f"corpus:    {champion.corpus} ({champion.corpus_version})")
    print(f"since:     {champion.promoted_at}")
    print(f"why:       {champion.reason}")
    print(f"folder:    {champion.folder}")
    for item in former:
        gone = "" if item.folder.is_dir() else "  (its checkpoint is gone)"
        print(f"before:    {item.checkpoint_id}, since {item.promoted_at}{gone}")
    return 0


def _values(champion: Champion) -> dict[str, Any]:
    values = {**asdict(champion), "folder": str(champion.folder)}
    return {name: values[name] for name in _SHOWN}
