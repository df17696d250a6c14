"""`zrag champion`, `zrag promote` and `zrag rollback`: which checkpoint people ask, and taking it back."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from zrag_core.errors import CheckpointError
from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import Champion, read_champion, read_champions


def register(commands: Commands) -> None:
    """Add the commands to the parser of `zrag`."""
    shown = add_command(
        commands,
        "champion",
        show,
        summary="say which checkpoint is asked, since when and why",
        description="Print the champion, the checkpoint that `zrag ask` reads, and its predecessors.",
        examples=["zrag champion", "zrag champion --json"],
    )
    shown.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    chosen = add_command(
        commands,
        "promote",
        promote,
        summary="make a checkpoint the champion by hand",
        description="Make a checkpoint the champion, whatever its checks and the comparison with the present one say.",
        examples=["zrag promote memory-0123456789abcdef"],
    )
    chosen.add_argument("checkpoint", help="id of a checkpoint (a folder below data/checkpoints), or its folder")
    add_command(
        commands,
        "rollback",
        roll_back,
        summary="make the former champion the champion again",
        description="Undo the last promotion: the champion before becomes the champion again.",
        examples=["zrag rollback"],
    )


def show(arguments: argparse.Namespace) -> int:
    """Print the champion and the ones before."""
    champion = read_champion()
    if champion is None:
        raise CheckpointError(
            "there is no champion yet", remedy="run `make demo`, or make one by hand: zrag promote CHECKPOINT"
        )
    former = read_champions()[1:]
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


def promote(arguments: argparse.Namespace) -> int:
    """Make a checkpoint the champion."""
    from zrag_pipeline.defs.champion.promotion import promote_by_hand
    from zrag_pipeline.platform.tracking import Tracking
    from zrag_pipeline.platform.warehouse import Warehouse

    folder = Path(arguments.checkpoint).expanduser()
    if not folder.is_dir():
        folder = paths.checkpoints_dir() / arguments.checkpoint
    champion = promote_by_hand(folder.absolute(), Warehouse(paths.warehouse_file()), Tracking(paths.data_dir()))
    print(f"{champion.checkpoint_id} is the champion now; `zrag rollback` takes it back")
    return 0


def roll_back(_arguments: argparse.Namespace) -> int:
    """Restore the champion before."""
    from zrag_pipeline.defs.champion import promotion
    from zrag_pipeline.platform.tracking import Tracking

    was, champion = promotion.roll_back(Tracking(paths.data_dir()))
    print(f"rolled back: {was.checkpoint_id} -> {champion.checkpoint_id} (corpus {champion.corpus_version})")
    if not was.proven:
        print("what the command added or removed stays recorded, and the next run applies it again; the opposite")
        print("command (`zrag remove`, `zrag add`) takes that back too")
    return 0


def _values(champion: Champion) -> dict[str, Any]:
    return {
        "checkpoint_id": champion.checkpoint_id,
        "corpus": champion.corpus,
        "corpus_version": champion.corpus_version,
        "promoted_at": champion.promoted_at,
        "reason": champion.reason,
        "folder": str(champion.folder),
    }
