"""The reasoning that some models write before their answer."""

from __future__ import annotations

import re

_THINKING = re.compile(
    r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)", re.DOTALL | re.IGNORECASE
)
# Some chat templates open the reasoning in the prompt.
_OPENED_BEFORE = re.compile(r"\A.*</(?:think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)
_NAMES = ("think", "thinking", "reasoning")
_TAGS = (*(f"<{end}{name}>" for name in _NAMES for end in ("", "/")), "[think]", "[/think]")


def strip_thinking(text: str) -> str:
    """`text` without the reasoning that thinking models put before their answer, finished or not."""
    return _OPENED_BEFORE.sub("", _THINKING.sub("", text)).strip()


def settled_answer(text: str) -> str:
    """What of an unfinished `text` is answer whatever follows: no reasoning, and no tag that may begin at its end."""
    answer = strip_thinking(text)
    begun = max(answer.rfind("<"), answer.rfind("["))
    if begun >= 0 and any(tag.startswith(answer[begun:].lower()) for tag in _TAGS):
        return answer[:begun].rstrip()
    return answer
