"""`zrag config`: the run configurations that come with zRAG."""

from __future__ import annotations

import argparse
import sys

from zrag_core.errors import ZragError
from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.platform import paths


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "config",
        run,
        summary="print a run configuration that comes with zRAG",
        description="Print a run configuration, to run it as it is or to change it; without a name, list them all.",
        examples=[
            "zrag config",
            "zrag config squad > my.yaml",
            "dagster job execute -m zrag_pipeline.definitions -j full -c my.yaml",
        ],
    )
    parser.add_argument("name", nargs="?", help="name of the configuration, `squad` for instance")


def run(arguments: argparse.Namespace) -> int:
    """Print one configuration, or the first line of each."""
    files = {path.stem: path for path in sorted(paths.CONFIGS.glob("*.yaml"))}
    if arguments.name is None:
        for name, path in files.items():
            print(f"{name:<22}  {path.read_text('utf-8').splitlines()[0].removeprefix('# ')}")
        return 0
    chosen = files.get(arguments.name.removesuffix(".yaml"))
    if chosen is None:
        raise ZragError(f"there is no configuration '{arguments.name}'", remedy=f"known: {', '.join(files)}")
    sys.stdout.write(chosen.read_text("utf-8"))
    return 0
