"""Texts of a corpus inside Markdown."""

import re

# Only what makes a difference: whoever looks for a text, as a purge does, finds it best as it was.
_MARKS = re.compile(r"[\\`*_\[\]<>|~]|&(?=#?\w+;)|:(?=//)|(?<=\bwww)\.|^[#+=-]")
_MARKED = re.compile(r"\\([\\`*_\[\]<>|~&:.#+=-])")


def markdown_text(text: str) -> str:
    """Text on one line that Markdown shows as it is: no HTML, link, picture or table in it counts as one."""
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))


def plain_text(markdown: str) -> str:
    """The text that `markdown_text` was given, on one line."""
    return _MARKED.sub(r"\1", markdown)
