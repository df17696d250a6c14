"""Text on a terminal, where Hangul, Han and Kana take two columns and combining marks none."""

from __future__ import annotations

import shutil
import unicodedata

from rich.cells import cell_len, chop_cells, set_cell_size

_WIDEST = 110


def columns() -> int:
    """How wide text should be: the terminal's width, within what is good to read."""
    return max(40, min(_WIDEST, shutil.get_terminal_size((100, 24)).columns))


def clip(text: str, size: int) -> str:
    """Cut `text` to one line of at most `size` columns; "…" says that it was cut."""
    text = " ".join(printable(text).split())
    return text if cell_len(text) <= size else set_cell_size(text, size - 1).rstrip() + "…"


def wrap(text: str, size: int, indent: str = "") -> list[str]:
    """Lines of at most `size` columns, each behind `indent`; words that are longer than a line are broken."""
    room = size - cell_len(indent)
    lines: list[str] = []
    for paragraph in printable(text).splitlines():
        line = ""
        for word in paragraph.split():
            if line and cell_len(line) + 1 + cell_len(word) <= room:
                line += f" {word}"
            else:
                *full, rest = chop_cells(word, room)
                lines += [line, *full]
                line = rest
        lines.append(line)
    return [indent + line for line in lines if line]


def printable(text: str) -> str:
    """`text` without the control characters by which a document could take over the terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf"))
