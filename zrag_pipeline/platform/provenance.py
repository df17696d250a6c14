"""What a row or a run was made with: the code's commit and version."""

from __future__ import annotations

import functools
import subprocess

from zrag_core import __version__
from zrag_pipeline.platform.paths import CHECKOUT

ZRAG_VERSION = __version__
_DESCRIBE = "describe --always --abbrev=40 --exclude=* --dirty".split()


@functools.cache
def git_sha() -> str | None:
    """Return the checkout's commit, with `-dirty` behind it when tracked files differ from it.

    None where the code does not run from a git checkout of its own (an installed copy).
    """
    if CHECKOUT is None or not (CHECKOUT / ".git").exists():
        return None
    command = ["git", "--no-optional-locks", "-C", str(CHECKOUT), *_DESCRIBE]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
