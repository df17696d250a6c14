"""The command `zrag`: what people ask of a finished run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from zrag_core.errors import ZragError
from zrag_pipeline.commands import (
    add,
    ask,
    champion,
    config,
    documents,
    ingest,
    leaderboard,
    promote,
    remove,
    rollback,
    serve,
    serve_reader,
    status,
    ui,
    use,
    where,
)
from zrag_pipeline.platform import paths

# In the order of the help.
_COMMANDS = (
    ingest,
    ask,
    serve,
    status,
    use,
    documents,
    add,
    remove,
    champion,
    promote,
    rollback,
    leaderboard,
    where,
    config,
    serve_reader,
    ui,
)
_FIRST = "make demo" if paths.CHECKOUT else "dagster job execute -m zrag_pipeline.definitions -j demo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors that a person can act on are one line and exit code 1."""
    parser = argparse.ArgumentParser(
        prog="zrag",
        description="zRAG: a memory inside a local LLM instead of a retriever.",
        epilog=f"`zrag COMMAND --help` explains a command. Nothing here yet? `{_FIRST}` builds a first memory.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=20, width=110),
    )
    commands = parser.add_subparsers(dest="command", required=True, title="commands", metavar="COMMAND")
    for command in _COMMANDS:
        command.register(commands)
    chosen = parser.parse_args(arguments)
    try:
        code = chosen.run(chosen)
        sys.stdout.flush()  # a pipe that is closed shows here, not when Python ends
    except ZragError as error:
        print(f"zrag: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `zrag leaderboard | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
