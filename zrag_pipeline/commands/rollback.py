"""`zrag rollback`: make the former champion the champion again."""

from __future__ import annotations

import argparse

from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.commands.memory_choice import add_memory_option
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import required_memory


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "rollback",
        run,
        summary="make the former champion the champion again",
        description="Undo the last promotion: the champion before becomes the champion again.",
        examples=["zrag rollback"],
    )
    add_memory_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Restore the champion before."""
    from zrag_pipeline.defs.champion.promotion import roll_back
    from zrag_pipeline.platform.tracking import Tracking

    was, champion = roll_back(Tracking(paths.data_path()), required_memory(arguments.memory))
    print(f"rolled back: {was.checkpoint_id} -> {champion.checkpoint_id} (corpus {champion.corpus_version})")
    if not was.proven:
        print("what the command added or removed stays recorded, and the next run applies it again; the opposite")
        print("command (`zrag remove`, `zrag add`) takes that back too")
    return 0
