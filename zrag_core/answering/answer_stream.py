"""The text of one answer while a model writes it: shown piece by piece, and stopped by whoever reads it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from zrag_core.answering.types import Answer, AnswerRequest
from zrag_core.errors import AnsweringError


class AnswerStopped(AnsweringError):
    """Whoever read the answer wants no more of it."""


class AnswerStream:
    """Takes the text of one answer as far as it is written; `stop` may be called from any thread.

    Args:
        show: called with each piece, from the thread that asks the model; must return at once.

    Attributes:
        text: what was shown so far.
    """

    def __init__(self, show: Callable[[str], object]):
        self.text = ""
        self._show = show
        self._lock = threading.Lock()
        self._stopped = False
        self._cancel: Callable[[], object] | None = None

    def reach(self, text: str) -> None:
        """Show what the answer, `text` so far, has beyond what was shown; what was shown is never taken back."""
        if text != self.text and text.startswith(self.text):
            piece, self.text = text[len(self.text) :], text
            self._show(piece)

    def stop(self) -> None:
        """Have whoever writes the answer stop; does nothing where it is finished."""
        with self._lock:
            self._stopped = True
            if self._cancel is not None:
                self._cancel()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    @contextmanager
    def stopping_by(self, cancel: Callable[[], object]) -> Iterator[None]:
        """While the context lasts, `stop` calls `cancel`, at once where it was called before."""
        with self._lock:
            self._cancel = cancel
            if self._stopped:
                cancel()
        try:
            yield
        finally:
            with self._lock:
                self._cancel = None


@runtime_checkable
class StreamingReader(Protocol):
    """A reader that can show an answer while it is written."""

    def answer_streamed(self, request: AnswerRequest, stream: AnswerStream) -> Answer:
        """Return the answer to one request; its text goes to `stream` as it is written.

        Raises:
            AnsweringError: nothing can be answered at all.
            AnswerStopped: `stream` was stopped.
        """
        ...
