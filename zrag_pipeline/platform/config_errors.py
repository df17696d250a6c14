"""A configuration that Dagster cannot take, told in a line for each problem.

Dagster checks the outline of a configuration before any code of ours runs, and ends with a traceback where it is wrong.
"""

import re
import sys
import traceback
from types import TracebackType

import dagster as dg

_SECTION = re.compile(r"Value at path root:resources:settings:config:(\S+) must be dict\.")
_NAMES = "Key in Mapping mismatches type"


def config_problems(error: BaseException) -> list[str]:
    """What is wrong with the configuration, without its values; empty where the error is about something else."""
    if isinstance(error, dg.DagsterInvalidConfigError):
        return [_plain(message) for message in error.error_messages]
    files = {frame.filename.rpartition("/")[2] for frame in traceback.extract_tb(error.__traceback__)}
    if _NAMES in str(error) and "post_process.py" in files:
        return ["the name of a field is a number or the like -> names are text"]
    return []


def _plain(message: str) -> str:
    if found := _SECTION.match(message):
        return f"{found.group(1).replace(':', '.')}: a section belongs here, with fields of its own"
    return message.partition(" Expected: ")[0].rstrip(".")


def explain_config_problems() -> None:
    """Let `dagster job execute` end with the problems instead of a traceback; other errors end as before."""
    former = sys.excepthook

    def explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        problems = config_problems(error)
        if not problems:
            former(kind, error, trace)
            return
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        lines = [f"the configuration cannot be used: {count}", *(f"  - {problem}" for problem in problems)]
        print("\n".join(lines), file=sys.stderr)

    sys.excepthook = explain
