"""The reasoning that some models write before their answer."""

from __future__ import annotations

import re

_THINKING = re.compile(
    r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)", re.DOTALL | re.IGNORECASE
)
# Some chat templates open the reasoning in the prompt.
_OPENED_BEFORE = re.compile(r"\A.*</(?:think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)


def strip_thinking(text: str) -> str:
    """`text` without the reasoning that thinking models put before their answer, finished or not."""
    return _OPENED_BEFORE.sub("", _THINKING.sub("", text)).strip()
