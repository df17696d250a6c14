"""Tables of comma-separated values."""

from __future__ import annotations

import csv
import io

from zrag_core.corpus.conversion.plain import decode
from zrag_core.corpus.conversion.text_page import CannotConvert, Page, Section

_SAMPLE = 16_384


def convert_csv(content: bytes, name: str) -> Page:
    """Each row as a paragraph, "column: value, column: value", so that it says what it means wherever it stands."""
    text, notes = decode(content)
    delimiter = "\t" if name.lower().endswith(".tsv") else _delimiter(text)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter)]
    except csv.Error as error:
        raise CannotConvert(f"not a table that can be read ({error})") from error
    rows = [row for row in rows if any(row)]
    if not rows:
        return Page("", ())
    header, *rest = rows
    lines = []
    for row in rest or [header]:
        names = header if rest else []
        pairs = [(names[n] if n < len(names) else "", cell) for n, cell in enumerate(row)]
        named = [f"{column}: {cell}" if column else cell for column, cell in pairs if cell]
        lines.append(", ".join(" ".join(part.split()) for part in named))
    made = "\n\n".join(lines)
    return Page(made, (Section((), 0, len(made)),), notes=notes)


def _delimiter(text: str) -> str:
    try:
        return csv.Sniffer().sniff(text[:_SAMPLE], delimiters=",;\t|").delimiter
    except csv.Error:
        return ","
