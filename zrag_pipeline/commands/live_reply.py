"""A reply on a terminal whose answer is seen while a model writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zrag_core.answering.answer_stream import AnswerStream
from zrag_core.replies import Reply
from zrag_pipeline.commands.reply_text import answer_so_far, reply_text

if TYPE_CHECKING:
    from zrag_core.memory import Memory


def print_live(memory: Memory, question: str, budget: int, free: bool) -> Reply:
    """Ask a question, print the reply as `reply_text` words it, its answer as it is written, and return it.

    Raises:
        AnsweringError: the answering model cannot be asked at all.
    """
    shown = _Shown()
    asked: list[Reply] = []

    def found(reply: Reply) -> None:
        asked.append(reply)
        shown.reach(answer_so_far(reply, ""))

    # Words that are whole: the last one may yet go on, and then belong on the next line.
    stream = AnswerStream(lambda _: shown.reach(answer_so_far(asked[0], stream.text.rpartition(" ")[0])))
    try:
        reply = memory.ask_streamed(question, stream, found, budget, free)
    except BaseException:
        shown.break_off()
        raise
    shown.end(reply_text(reply, memory.checkpoint.id, len(memory.documents)) + "\n")
    return reply


class _Shown:
    """What stands on the terminal, of a text that grows."""

    def __init__(self) -> None:
        self._text = ""

    def reach(self, text: str) -> None:
        """Print what `text` has beyond what stands there."""
        if text.startswith(self._text):
            print(text[len(self._text) :], end="", flush=True)
            self._text = text

    def break_off(self) -> None:
        """End a line that was begun."""
        if self._text:
            print(flush=True)

    def end(self, text: str) -> None:
        """Print the rest of `text`; all of it where it is not what was begun."""
        if not text.startswith(self._text):
            self.break_off()
            self._text = ""
        self.reach(text)
