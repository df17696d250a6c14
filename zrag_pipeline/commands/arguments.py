"""How the commands of `zrag` describe themselves to the parser, and what it says to people."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from zrag_pipeline.commands.terminal import columns

Commands = argparse._SubParsersAction
_EXAMPLES = "examples:"


class CommandParser(argparse.ArgumentParser):
    """A parser whose help is as wide as the terminal, and whose errors are one line about what was typed."""

    def __init__(self, **options: Any):
        super().__init__(formatter_class=_Help, **options)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line."""
        self.exit(2, f"{self.prog}: {message} -> `{self.prog} --help` explains\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Refuse what was typed beyond what the command takes."""
        first = unknown[0].partition("=")[0]
        if not first.startswith("-"):
            self.error(f"there is one argument too many: '{first}'")
        self.error(f"there is no option '{first}'{_near(first, self._option_string_actions)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        if isinstance(action, Commands):
            raise argparse.ArgumentError(None, f"there is no command '{value}'{_near(value, known)}")
        raise argparse.ArgumentError(action, f"'{value}' is none of {', '.join(known)}{_near(value, known)}")


class _Help(argparse.HelpFormatter):
    """Wraps everything but examples."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=24, width=columns())

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, Commands):  # argparse forgets that they are indented
            self._action_max_length += self._indent_increment

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_EXAMPLES) else super()._fill_text(text, width, indent)


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
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog="\n  ".join((_EXAMPLES, *examples)) if examples else None,
    )
    # Not given here, it is what was given before the command's name.
    add_quiet_option(parser, default=argparse.SUPPRESS)
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_quiet_option(parser: argparse.ArgumentParser, default: Any = False) -> None:
    """Add `--quiet`."""
    parser.add_argument(
        "-q", "--quiet", action="store_true", default=default, help="no progress and no remarks, only the outcome"
    )


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of at least 1")
    return int(text)


def port(text: str) -> int:
    """A port's number; 0 stands for a free one."""
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"'{text}' is no port (0 to 65535)")
    return int(text)


def share(text: str) -> float:
    """A number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"'{text}' is no number between 0 and 1")
    return value


def _near(given: str, known: Any) -> str:
    found = difflib.get_close_matches(given, [*known], n=1)
    return f"; did you mean '{found[0]}'?" if found else ""
