"""How far long work is, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

_BAR = 20
_FIRST_S = 1.0  # what is done sooner needs no line
_REDRAWN_S = 0.1
_SAID_S = 10.0


class ProgressLine:
    """One line that is redrawn on a terminal, and a line every ten seconds elsewhere; call it with phase, done, total.

    Use it as a context manager: the end of the block clears the line.

    Args:
        unit: what is counted.
        quiet: say nothing.
        stream: where to; standard error if left out.
    """

    def __init__(
        self,
        unit: str = "documents",
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._unit = unit
        self._quiet = quiet
        self._stream = stream or sys.stderr
        self._clock = clock
        self._redrawn = self._stream.isatty()
        self._phase = ""
        self._began = self._due = clock()
        self._drawn = False

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Say how far it is, where that is due."""
        now = self._clock()
        if phase != self._phase:
            self._phase, self._began = phase, now
            self._due = now + (_FIRST_S if self._redrawn else _SAID_S)
        if self._quiet or now < self._due:
            return
        self._due = now + (_REDRAWN_S if self._redrawn else _SAID_S)
        left = (now - self._began) / max(1, done) * (total - done)
        text = f"{done:,} of {total:,} {self._unit}  {left:.0f} s left"
        if self._redrawn:
            full = round(_BAR * done / max(1, total))
            self._stream.write(f"\r\x1b[K{phase}  {'█' * full}{'░' * (_BAR - full)}  {text}")
            self._drawn = True
        else:
            self._stream.write(f"{phase} {text}\n")
        self._stream.flush()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
