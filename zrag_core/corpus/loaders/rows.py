"""Reading JSON and checking its fields, so that every bad row is told with its place and reason."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from zrag_core.corpus.cleaning import clean, not_utf8, unique
from zrag_core.errors import CorpusError, ProblemList


class BadField(ValueError):
    """One field of one row that cannot be used; the message is the reason."""


class Problems:
    """Collects what is wrong with a corpus while reading goes on, and raises it all at once."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, where: str, reason: str) -> None:
        """Note one problem: `where` names file and line (or place in the file)."""
        self._lines.append(f"{where}: {reason}")

    def raise_if_any(self, source: str) -> None:
        """Raise everything collected.

        Raises:
            ProblemList: at least one problem was added.
        """
        if self._lines:
            count = len(self._lines)
            raise ProblemList(f"{source}: {count} bad {'row' if count == 1 else 'rows'}; nothing was read", self._lines)


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading, through gzip where its name ends in .gz.

    Raises:
        CorpusError: the file cannot be opened.
    """
    try:
        return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> CorpusError:
    """The error for a file that cannot be opened, or breaks off while it is read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return CorpusError(f"cannot be read ({reason})", where=str(path), remedy="check the file and its permissions")


def read_json(path: Path) -> Any:
    """Parse a JSON file (.gz too, with or without a byte order mark).

    Raises:
        CorpusError: it cannot be read, is not UTF-8, or is broken at a line that the message names.
    """
    try:
        with open_binary(path) as file:
            text = file.read().decode("utf-8-sig")
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise CorpusError(not_utf8(error), where=str(path), remedy="save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"broken JSON ({error.msg}, column {error.colno})",
            where=f"{path}:{error.lineno}",
            remedy="mend that line, or fetch the file again if it breaks off there",
        ) from error
    except (OSError, EOFError, zlib.error, RecursionError) as error:
        raise unreadable(path, error) from error


def read_jsonl(path: Path, problems: Problems) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (line number, row) for every JSON object in a JSONL file; bad lines go to `problems`.

    Lines end at line feeds alone: JSON text may hold other Unicode line separators. Blank lines are skipped.

    Raises:
        CorpusError: the file cannot be opened, or its compressed data breaks off.
    """
    try:
        with open_binary(path) as file:
            for number, raw in enumerate(file, 1):
                where = f"{path}:{number}"
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                    row = json.loads(line) if line else None
                except UnicodeDecodeError as error:
                    problems.add(where, not_utf8(error))
                except json.JSONDecodeError as error:
                    problems.add(where, f"broken JSON ({error.msg}, column {error.colno})")
                except (ValueError, RecursionError) as error:  # numbers or nesting beyond Python's limits
                    problems.add(where, f"broken JSON ({error})")
                else:
                    if isinstance(row, Mapping):
                        yield number, row
                    elif line:
                        problems.add(where, f"the row must be a JSON object, not {kind(row)}")
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def kind(value: Any) -> str:
    """Name the JSON type of a value for messages."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def string(value: Any, field: str) -> str:
    """Return a cleaned, stripped string (it may be empty).

    Raises:
        BadField: `value` is no string, or holds half of a Unicode surrogate pair.
    """
    if not isinstance(value, str):
        raise BadField(f"{field} must be a string, not {kind(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadField(f"{field} holds a broken Unicode escape at character {error.start}") from error
    return clean(value).strip()


def one_line(value: Any, field: str) -> str:
    """Like `string`, with every run of white space (line ends too) made one space."""
    return " ".join(string(value, field).split())


def required(row: Mapping[str, Any], field: str) -> str:
    """Return the row's non-empty one-line string `field`.

    Raises:
        BadField: it is missing, empty or no string.
    """
    if row.get(field) is None:
        raise BadField(f"no {field}")
    value = one_line(row[field], field)
    if not value:
        raise BadField(f"{field} is empty")
    return value


def identifier(row: Mapping[str, Any], field: str = "id") -> str:
    """Return the row's id; whole numbers are accepted and written out.

    Raises:
        BadField: it is missing, empty or of another type.
    """
    return required({field: _written_out(row.get(field))}, field)


def identifiers(value: Any, field: str) -> tuple[str, ...]:
    """Return a list of ids without repeats, in order; whole numbers are accepted and written out.

    Raises:
        BadField: `value` is no list, or one entry is no id.
    """
    return strings([_written_out(entry) for entry in expect(value, list, field)], field)


def _written_out(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def strings(value: Any, field: str) -> tuple[str, ...]:
    """Return a list of non-empty strings without repeats, in order.

    Raises:
        BadField: `value` is no list, or one entry is empty or no string.
    """
    if not isinstance(value, list | tuple):
        raise BadField(f"{field} must be a list of strings, not {kind(value)}")
    entries = [one_line(entry, f"{field}[{position}]") for position, entry in enumerate(value)]
    if "" in entries:
        raise BadField(f"{field}[{entries.index('')}] is empty")
    return unique(entries)


def expect(value: Any, kind_: type, what: str) -> Any:
    """Return `value` if it is of the given type.

    Raises:
        BadField: it is not.
    """
    if not isinstance(value, kind_):
        wanted = "an object" if kind_ is dict else "a list"
        raise BadField(f"{what} must be {wanted}, not {kind(value)}")
    return value
