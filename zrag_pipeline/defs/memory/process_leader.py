"""The first process of a group of its own: `python -m MODULE OUTPUT PROGRAM ARGUMENTS...` becomes the program.

What the program prints is appended to the file OUTPUT.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Leave the group of whoever started this process, and become the program."""
    output, *program = sys.argv[1:]
    os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
