"""The memory behind the server: opened when it is first asked, and again when another checkpoint is to be asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from zrag_core.answering.answer_stream import AnswerStopped, AnswerStream
from zrag_core.replies import Reply

if TYPE_CHECKING:
    from zrag_core.corpus.types import Document
    from zrag_core.memory import Memory


class MemoryService:
    """Answers one question at a time; neither the tokenizer nor what is kept between questions takes two threads.

    Args:
        current: names the checkpoint that is to be asked; looked at before every question, so it has to be cheap.
        open_memory: opens the one of that name.
    """

    def __init__(self, current: Callable[[], str], open_memory: Callable[[str], Memory]):
        self._current, self._open = current, open_memory
        self._lock = threading.Lock()
        self._memory: Memory | None = None
        self._name = ""

    def ask(self, question: str, budget: int = 256, free: bool = False) -> Reply:
        """Answer a question.

        Raises:
            ZragError: the memory cannot be opened, or the answering model cannot be asked.
        """
        with self._lock:
            (reply,) = self._opened().ask([question], budget, free)
        return reply

    def ask_streamed(
        self,
        question: str,
        stream: AnswerStream,
        found: Callable[[Reply], object],
        budget: int = 256,
        free: bool = False,
    ) -> Reply:
        """Answer a question; see `Memory.ask_streamed`.

        Raises:
            ZragError: as for `ask`, or `stream` was stopped.
        """
        with self._lock:
            if stream.stopped:  # while other questions were answered
                raise AnswerStopped("the answer was stopped")
            return self._opened().ask_streamed(question, stream, found, budget, free)

    def document(self, identifier: str) -> Document | None:
        """A document in memory, or None."""
        with self._lock:
            documents = self._opened().documents
        return next((document for document in documents if document.id == identifier), None)

    def describe(self) -> dict[str, str | int]:
        """Which memory is asked, and how many documents it holds."""
        with self._lock:
            memory = self._opened()
            return {
                "checkpoint_id": memory.checkpoint.id,
                "documents": len(memory.documents),
                "reader": memory.reader.name if memory.reader else "none",
            }

    def _opened(self) -> Memory:
        name = self._current()
        if self._memory is None or name != self._name:
            self._memory, self._name = self._open(name), name
        return self._memory
