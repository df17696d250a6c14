"""The command `zrag`: what people ask of a finished run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from zrag_core import __version__
from zrag_core.errors import ZragError
from zrag_pipeline.commands import (
    add,
    ask,
    champion,
    checkpoints,
    completion,
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
from zrag_pipeline.commands.arguments import CommandParser, add_quiet_option
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
    checkpoints,
    promote,
    rollback,
    leaderboard,
    where,
    config,
    serve_reader,
    ui,
    completion,
)
_FIRST = "make demo" if paths.CHECKOUT else "dagster job execute -m zrag_pipeline.definitions -j demo"


def command_parser() -> CommandParser:
    """The parser of `zrag` and all its commands."""
    parser = CommandParser(
        prog="zrag",
        description="zRAG: a memory inside a local LLM instead of a retriever.",
        epilog=f"`zrag COMMAND --help` explains a command. Nothing here yet? `{_FIRST}` builds a first memory.",
    )
    parser.add_argument("--version", action="version", version=f"zrag {__version__}")
    add_quiet_option(parser)
    parser.set_defaults(whole=parser)  # for the command that prints completions
    commands = parser.add_subparsers(dest="command", required=True, title="commands", metavar="COMMAND")
    for command in _COMMANDS:
        command.register(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors that a person can act on are one line and exit code 1 (2 for what cannot be parsed)."""
    parser = command_parser()
    typed = sys.argv[1:] if arguments is None else list(arguments)
    if not typed:
        parser.print_help()
        return 0
    chosen, unknown = parser.parse_known_args(typed)
    if unknown:
        chosen.parser.refuse(unknown)
    try:
        code: int = chosen.run(chosen)
        sys.stdout.flush()  # a pipe that is closed shows here, not when Python ends
    except ZragError as error:
        print(f"zrag: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `zrag leaderboard | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("zrag: interrupted", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
