"""The champion: the checkpoint that `zrag ask` answers from, named by the file `champion.json` in the data folder.

    {
      "format_version": 1,
      "champion": {"checkpoint_id": "memory-...", "folder": "checkpoints/memory-...", "corpus_version": "...",
                   "corpus": "almanac", "decoding": {...}, "backbone_device": "auto",
                   "promoted_at": "2026-01-31T12:00:00+00:00", "reason": "...", "proven": true},
      "former": [{...}, ...],       what was the champion before, newest first, at most twenty
      "rejected": ["memory-..."]    what was rolled back: no run promotes it again
    }

Folders inside the data folder are written relative to it, so that it can be moved. The file is replaced as a whole.
Reading it imports neither torch nor MLflow nor Dagster.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, PlainSerializer, TypeAdapter, ValidationError

from zrag_core.errors import CheckpointError
from zrag_core.files import write_json_atomic
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.file_lock import locked

FORMAT_VERSION = 1
_FORMER = 20
_AGAIN = "run `make demo` or the job `full` to make a champion again"


def champion_file() -> Path:
    """Return the path of the file (nothing is created)."""
    return paths.data_path() / "champion.json"


def _known_version(version: int) -> int:
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"format version {version} is not {FORMAT_VERSION}",
            where=str(champion_file()),
            remedy="use the version of zRAG that wrote it, or remove the file and " + _AGAIN,
        )
    return version


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


@dataclass(frozen=True)
class _Record:
    format_version: Annotated[int, AfterValidator(_known_version)]
    champion: Champion
    former: list[Champion]
    rejected: list[str] = field(default_factory=list)


_RECORD = TypeAdapter(_Record)


def read_champion() -> Champion | None:
    """Return the champion, or None where there is none yet.

    Raises:
        CheckpointError: the file is damaged, or the champion's folder is gone.
    """
    record = _read()
    if record is None:
        return None
    champion = record.champion
    if not (champion.folder / "config.json").is_file():
        raise CheckpointError(
            f"the champion {champion.checkpoint_id} is gone",
            where=str(champion.folder),
            remedy="restore the folder, take a former one back (`zrag rollback`), or " + _AGAIN,
        )
    return champion


def read_champions() -> list[Champion]:
    """Return the champion and the former ones, newest first, whether or not their folders exist; empty before any.

    Raises:
        CheckpointError: the file is damaged.
    """
    record = _read()
    return [] if record is None else [record.champion, *record.former]


def rejected_checkpoints() -> list[str]:
    """Return the ids of checkpoints that were rolled back, newest first.

    Raises:
        CheckpointError: the file is damaged.
    """
    record = _read()
    return [] if record is None else record.rejected


def now() -> str:
    """The time in UTC, to the second, as `promoted_at` holds it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_champion(champion: Champion) -> None:
    """Make `champion` the champion; the one before it becomes the newest of the former ones.

    Raises:
        CheckpointError: the present file is damaged.
    """
    with _locked():
        before = [entry for entry in read_champions() if entry.checkpoint_id != champion.checkpoint_id]
        rejected = [name for name in rejected_checkpoints() if name != champion.checkpoint_id]
        _write([champion, *before], rejected)


def write_champions(champions: Sequence[Champion], *, rejected: Sequence[str] | None = None) -> None:
    """Replace the whole record: the champion first, then the former ones, newest first.

    Args:
        champions: without any, there is no champion until the next promotion, and nothing is rejected.
        rejected: ids of what was rolled back; left out, they stay.
    """
    with _locked():
        if champions:
            _write(champions, rejected_checkpoints() if rejected is None else rejected)
        else:
            champion_file().unlink(missing_ok=True)


def _locked() -> AbstractContextManager[None]:
    return locked(paths.data_dir() / ".champion.lock")


def _write(champions: Sequence[Champion], rejected: Sequence[str]) -> None:
    record = _Record(FORMAT_VERSION, champions[0], list(champions[1 : _FORMER + 1]), list(rejected[:_FORMER]))
    write_json_atomic(champion_file(), _RECORD.dump_python(record))


def _read() -> _Record | None:
    try:
        return _RECORD.validate_json(champion_file().read_bytes(), strict=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = str(error)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    raise CheckpointError(
        f"the record of the champion is damaged ({reason.splitlines()[0]})",
        where=str(champion_file()),
        remedy="restore the file, or remove it and " + _AGAIN,
    )
