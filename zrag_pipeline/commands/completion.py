"""`zrag completion`: a script that lets the shell complete commands and options."""

from __future__ import annotations

import argparse

from zrag_pipeline.commands.arguments import Commands, add_command

_SHELLS = ("bash", "zsh", "fish")


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "completion",
        run,
        summary="print a script that lets the shell complete commands and options",
        description="Print a script for the shell. Sourced, or put where the shell looks for such scripts, it "
        "completes commands, options and their choices with the tab key.",
        examples=[
            'eval "$(zrag completion bash)"   (in ~/.bashrc)',
            "zrag completion zsh > ~/.zfunc/_zrag   (a folder of $fpath)",
            "zrag completion fish > ~/.config/fish/completions/zrag.fish",
        ],
    )
    parser.add_argument("shell", metavar="SHELL", choices=_SHELLS, help=", ".join(_SHELLS))


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    print(shtab.complete(arguments.whole, arguments.shell))
    return 0
