"""`zrag promote`: make a checkpoint the champion by hand."""

from __future__ import annotations

import argparse
import sys

from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.commands.memory_choice import choose_memory
from zrag_pipeline.platform import paths


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "promote",
        run,
        summary="make a checkpoint the champion by hand",
        description="Make a checkpoint the champion, whatever its checks and the comparison with the present one say. "
        "It is read as the run read it that judged it, and refuses as fitted on the dev questions of its corpus.",
        examples=["zrag promote memory-0123456789abcdef"],
    )
    parser.add_argument("checkpoint", help="id of a checkpoint (a folder below data/checkpoints), or its folder")


def run(arguments: argparse.Namespace) -> int:
    """Make a checkpoint the champion."""
    from zrag_pipeline.defs.champion.promotion import promote_by_hand
    from zrag_pipeline.platform.tracking import Tracking
    from zrag_pipeline.platform.warehouse import Warehouse

    folder = choose_memory(arguments.checkpoint).folder
    data = Warehouse(paths.warehouse_file()), Tracking(paths.data_dir())

    def remark(line: str) -> None:
        if not arguments.quiet:
            print(line, file=sys.stderr)

    champion = promote_by_hand(folder.absolute(), *data, remark)
    print(f"{champion.checkpoint_id} is the champion now; `zrag rollback` takes it back")
    return 0
