"""The champions: for every memory (the documents of one corpus) the checkpoint that is asked, named by the file
`champion.json` in the data folder.

    {
      "format_version": 2,
      "default": "handbook",        the memory that is asked where none is named; null: the one promoted last,
                                    but none of generated documents where there is one of your own
      "champions": [                newest first; the first one of a corpus is its champion, the others were before
        {"checkpoint_id": "memory-...", "folder": "checkpoints/memory-...", "corpus_version": "...",
         "corpus": "almanac", "decoding": {...}, "backbone_device": "auto",
         "promoted_at": "2026-01-31T12:00:00+00:00", "reason": "...", "proven": true}, ...],
      "rejected": ["memory-..."]    what was rolled back: no run promotes it again
    }

Folders inside the data folder are written relative to it, so that it can be moved. The file is replaced as a whole;
that of format 1 (one memory: `champion` and `former`) is read too. Reading it imports neither torch nor MLflow nor
Dagster.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, PlainSerializer, TypeAdapter, ValidationError

from zrag_core.errors import CheckpointError
from zrag_core.files import write_json_atomic
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.file_lock import locked

FORMAT_VERSION: Literal[2] = 2
_FORMER = 20  # of each memory
_AGAIN = "run `make demo` or the job `full` to make a champion again"


def champion_file() -> Path:
    """Return the path of the file (nothing is created)."""
    return paths.data_path() / "champion.json"


def _written_folder(folder: Path) -> str:
    folder, data = folder.absolute(), paths.data_path()
    return str(folder.relative_to(data) if folder.is_relative_to(data) else folder)


@dataclass(frozen=True)
class Champion:
    """A checkpoint that was promoted.

    Attributes:
        folder: its checkpoint folder.
        corpus_version, corpus: version and name of the corpus that it holds.
        decoding: the section `decoding` of the run that promoted it.
        backbone_device: `backbone.device` of that run.
        promoted_at: ISO 8601 time with its zone.
        reason: why it became the champion, for people.
        source: where its documents lie; "" for what is generated, or made before this was kept.
        proven: whether a run has checked it against the champion before; False for what a command has just written.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    checkpoint_id: str
    folder: Annotated[Path, AfterValidator(lambda folder: paths.data_path() / folder), PlainSerializer(_written_folder)]
    corpus_version: str
    corpus: str
    decoding: dict[str, Any]
    backbone_device: str
    promoted_at: str
    reason: str
    proven: bool = True
    source: str = ""


@dataclass(frozen=True)
class _Record:
    champions: list[Champion]
    rejected: list[str] = field(default_factory=list)
    default: str | None = None
    format_version: Literal[2] = FORMAT_VERSION


@dataclass(frozen=True)
class _FormerRecord:
    """The file of format 1."""

    format_version: Literal[1]
    champion: Champion
    former: list[Champion]
    rejected: list[str] = field(default_factory=list)


_RECORD = TypeAdapter(_Record)
_FORMER_RECORD = TypeAdapter(_FormerRecord)
_VERSION = re.compile(rb'"format_version"\s*:\s*(\d+)')


def read_champion(memory: str | None = None) -> Champion | None:
    """Return the champion of a memory, or of the default one; None where there is none yet.

    Args:
        memory: name of its corpus.

    Raises:
        CheckpointError: the file is damaged, or the champion's folder is gone.
    """
    champion = next(iter(read_champions(memory)), None)
    if champion is not None and not (champion.folder / "config.json").is_file():
        raise CheckpointError(
            f"the champion {champion.checkpoint_id} is gone",
            where=str(champion.folder),
            remedy="restore the folder, take a former one back (`zrag rollback`), or " + _AGAIN,
        )
    return champion


def read_champions(memory: str | None = None) -> list[Champion]:
    """Return the champion of a memory, or of the default one, and its former ones, newest first, whether or not their
    folders exist; empty before any.

    Raises:
        CheckpointError: the file is damaged.
    """
    record = _read()
    name = memory or _default(record)
    return [entry for entry in record.champions if entry.corpus == name]


def all_champions() -> list[Champion]:
    """Return the champions of all memories and their former ones, the default memory's first, each newest first."""
    record = _read()
    name = _default(record)
    return sorted(record.champions, key=lambda entry: entry.corpus != name)


def memory_names() -> list[str]:
    """Names of the memories that have a champion, the default one first."""
    return list(dict.fromkeys(entry.corpus for entry in all_champions()))


def rejected_checkpoints() -> list[str]:
    """Return the ids of checkpoints that were rolled back, newest first.

    Raises:
        CheckpointError: the file is damaged.
    """
    return _read().rejected


def now() -> str:
    """The time in UTC, to the second, as `promoted_at` holds it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_champion(champion: Champion, *, default: bool = False) -> None:
    """Make `champion` the champion of its memory; the one before it becomes the newest of the former ones.

    Args:
        default: its memory is the one that is asked from now on where none is named.

    Raises:
        CheckpointError: the present file is damaged.
    """
    with _locked():
        record = _read()
        before = [entry for entry in record.champions if _key(entry) != _key(champion)]
        rejected = [name for name in record.rejected if name != champion.checkpoint_id]
        _write([champion, *before], rejected, champion.corpus if default else record.default)


def set_default_memory(memory: str) -> None:
    """Make a memory the one that is asked where none is named.

    Raises:
        CheckpointError: it has no champion.
    """
    required_memory(memory)  # before anything is made
    with _locked():
        record = _read()
        required_memory(memory)
        _write(record.champions, record.rejected, memory)


def required_memory(memory: str | None) -> str | None:
    """The name of a memory that has a champion, or None, which stands for the default one.

    Raises:
        CheckpointError: none of this name has.
    """
    names = memory_names()
    if memory is not None and memory not in names:
        known = f"known: {', '.join(names)}" if names else "`zrag ingest FOLDER` makes one"
        raise CheckpointError(f"there is no memory '{memory}'", remedy=known)
    return memory


def write_champions(champions: Sequence[Champion], *, rejected: Sequence[str] | None = None) -> None:
    """Replace the record of all memories: of each the champion first, then the former ones, newest first.

    Args:
        champions: without any, there is no champion until the next promotion, and nothing is rejected.
        rejected: ids of what was rolled back; left out, they stay.
    """
    with _locked():
        if champions:
            record = _read()
            _write(champions, record.rejected if rejected is None else rejected, record.default)
        else:
            champion_file().unlink(missing_ok=True)


def _locked() -> AbstractContextManager[None]:
    return locked(paths.data_dir() / ".champion.lock")


def _key(champion: Champion) -> tuple[str, str]:
    return champion.corpus, champion.checkpoint_id


def _default(record: _Record) -> str:
    """The memory that is asked where none is named; "" where there is none."""
    names = [entry.corpus for entry in record.champions]
    if record.default in names:
        return record.default
    # A run of the demo takes nobody's own memory away.
    own = (entry.corpus for entry in record.champions if entry.source)
    return next(own, next(iter(names), ""))


def _write(champions: Sequence[Champion], rejected: Sequence[str], default: str | None) -> None:
    kept: list[Champion] = []
    counts: Counter[str] = Counter()
    for champion in champions:
        counts[champion.corpus] += 1
        if counts[champion.corpus] <= _FORMER + 1:
            kept.append(champion)
    record = _Record(kept, list(rejected[:_FORMER]), default if default in counts else None)
    write_json_atomic(champion_file(), _RECORD.dump_python(record))


def _read() -> _Record:
    try:
        text = champion_file().read_bytes()
        version = _VERSION.search(text)
        number = int(version.group(1)) if version else FORMAT_VERSION
        if number == 1:
            old = _FORMER_RECORD.validate_json(text, strict=True)
            return _Record([old.champion, *old.former], old.rejected)
        if number == FORMAT_VERSION:
            return _RECORD.validate_json(text, strict=True)
    except FileNotFoundError:
        return _Record([])
    except OSError as error:
        reason = str(error)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    else:
        raise CheckpointError(
            f"format version {number} is not {FORMAT_VERSION}",
            where=str(champion_file()),
            remedy="use the version of zRAG that wrote it, or remove the file and " + _AGAIN,
        )
    raise CheckpointError(
        f"the record of the champion is damaged ({reason.splitlines()[0]})",
        where=str(champion_file()),
        remedy="restore the file, or remove it and " + _AGAIN,
    )
