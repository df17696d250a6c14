"""How the commands of `zrag` describe themselves to the parser."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

Commands = argparse._SubParsersAction


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    description: str,
    examples: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """Add a command and return its parser, to which the caller adds options.

    Args:
        run: called with the parsed arguments; returns the exit code.
        summary: what `zrag --help` says of it, on one line.
        description: what `zrag NAME --help` says first.
        examples: command lines shown below the options.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog="\n  ".join(("examples:", *examples)) if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser
