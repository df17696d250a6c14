"""`zrag use`: choose the memory that is asked where none is named."""

from __future__ import annotations

import argparse

from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import read_champions, set_default_memory


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "use",
        run,
        summary="choose the memory that is asked where none is named",
        description="Make a memory the one that `zrag ask` and the others are about where none is named.",
        examples=["zrag use handbook"],
    )
    parser.add_argument("memory", metavar="NAME", help="`zrag status` lists them")


def run(arguments: argparse.Namespace) -> int:
    """Choose it."""
    set_default_memory(arguments.memory)
    if (paths.data_path() / paths.MLFLOW).is_file():
        from zrag_pipeline.defs.champion.promotion import move_alias
        from zrag_pipeline.platform.tracking import Tracking

        move_alias(Tracking(paths.data_dir()))
    print(f"{arguments.memory} is asked from now on ({read_champions(arguments.memory)[0].checkpoint_id})")
    return 0
