"""Reading JSON and checking its fields, so that every bad row is told with its place and reason."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from zrag_core.corpus.cleaning import LFS_POINTER, NOT_FETCHED, clean, marked_encoding, not_utf8, unique
from zrag_core.errors import CorpusError, ProblemList
from zrag_core.text import is_blank

DOCUMENT_IDS = ("id", "_id", "doc_id", "docid", "document_id", "passage_id", "guid")
"""What datasets call the id of a document."""

QUESTION_IDS = ("id", "_id", "guid", "question_id", "query_id", "qid")
"""What datasets call the id of a question, beside which one of a document may stand."""

_LISTED = 20  # rows with the same problem that are told one by one
_SHOWN_FIELDS = 8


class BadField(ValueError):
    """One field of one row that cannot be used; the message is the reason."""


class Problems:
    """Collects what is wrong with a corpus while reading goes on, and raises it all at once."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}  # by reason

    def add(self, where: str, reason: str) -> None:
        """Note one problem: `where` names file and line (or place in the file)."""
        self._places.setdefault(reason, []).append(where)

    def raise_if_any(self, source: str) -> None:
        """Raise everything collected; what many rows share is told once.

        Raises:
            ProblemList: at least one problem was added.
        """
        count = sum(map(len, self._places.values()))
        if count:
            rows = "row" if count == 1 else "rows"
            raise ProblemList(f"{source}: {count} bad {rows}; nothing was read", list(self._lines()))

    def _lines(self) -> Iterator[str]:
        for reason, places in self._places.items():
            if len(places) <= _LISTED:
                yield from (f"{where}: {reason}" for where in places)
            else:
                yield f"{places[0]} and {len(places) - 1:,} more, the last {places[-1]}: {reason}"


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading, through gzip where its name ends in .gz.

    Raises:
        CorpusError: the file cannot be opened, or stands for one that lies elsewhere.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise CorpusError(NOT_FETCHED, where=str(path))
        return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> CorpusError:
    """The error for a file that cannot be opened, or breaks off while it is read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return CorpusError(f"cannot be read ({reason})", where=str(path), remedy="check the file and its permissions")


def read_json(path: Path) -> Any:
    """Parse a JSON file (.gz too) in UTF-8, or in another encoding that its byte order mark names.

    Raises:
        CorpusError: it cannot be read, is not UTF-8, or is broken at a line that the message names.
    """
    try:
        with open_binary(path) as file:
            content = file.read()
        return json.loads(content.decode(marked_encoding(content)))
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
                if number == 1 and marked_encoding(raw) not in ("utf-8", "utf-8-sig"):
                    raise CorpusError(
                        f"in {marked_encoding(raw).upper()}, and JSON lines are read in UTF-8",
                        where=str(path),
                        remedy=f"convert the file (iconv -f {marked_encoding(raw).upper()} -t UTF-8)",
                    )
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
    """Return a cleaned, stripped string; empty where nothing of it can be seen.

    Raises:
        BadField: `value` is no string, or holds half of a Unicode surrogate pair.
    """
    if not isinstance(value, str):
        raise BadField(f"{field} must be a string, not {kind(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadField(f"{field} holds a broken Unicode escape at character {error.start}") from error
    text = clean(value).strip()
    return "" if is_blank(text) else text


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


def identifier(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the row's id, which stands under the first of the names that the row has; whole numbers are written out.

    Raises:
        BadField: it is missing, empty or of another type.
    """
    field = next((name for name in names if row.get(name) is not None), None)
    if field is None:
        known = list(map(str, row))
        more = ", ..." if len(known) > _SHOWN_FIELDS else ""
        fields = ", ".join(known[:_SHOWN_FIELDS]) or "nothing"
        raise BadField(f"no {names[0]} (the row has {fields}{more}); give each row its own, as '{names[0]}'")
    return required({field: _written_out(row[field])}, field)


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
