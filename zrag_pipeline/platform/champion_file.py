"""The champion: the checkpoint that `zrag ask` answers from, named by the file `champion.json` in the data folder.

    {
      "format_version": 1,
      "champion": {"checkpoint_id": "memory-...", "folder": "checkpoints/memory-...", "corpus_version": "...",
                   "corpus": "almanac", "decoding": {...}, "backbone_device": "auto",
                   "promoted_at": "2026-01-31T12:00:00+00:00", "reason": "..."},
      "former": [{...}, ...],       what was the champion before, newest first, at most twenty
      "rejected": ["memory-..."]    what was rolled back: no run promotes it again
    }

Folders inside the data folder are written relative to it, so that it can be moved. The file is replaced as a whole.
Reading it imports neither torch nor MLflow nor Dagster.
"""

from __future__ import annotations

import datetime
import fcntl
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zrag_core.errors import CheckpointError
from zrag_core.files import write_json_atomic
from zrag_pipeline.platform import paths

FORMAT_VERSION = 1
_FORMER = 20
_AGAIN = "run `make demo` or the job `full` to make a champion again"


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

    checkpoint_id: str
    folder: Path
    corpus_version: str
    corpus: str
    decoding: dict[str, Any]
    backbone_device: str
    promoted_at: str
    reason: str
    proven: bool = True


def champion_file() -> Path:
    """Return the path of the pointer file (nothing is created)."""
    return paths.data_path() / "champion.json"


def read_champion() -> Champion | None:
    """Return the champion, or None where there is none yet.

    Raises:
        CheckpointError: the file is damaged, or the champion's folder is gone.
    """
    known = read_champions()
    if not known:
        return None
    if not (known[0].folder / "config.json").is_file():
        raise CheckpointError(
            f"the champion {known[0].checkpoint_id} is gone",
            where=str(known[0].folder),
            remedy="restore the folder, take a former one back (`zrag rollback`), or " + _AGAIN,
        )
    return known[0]


def read_champions() -> list[Champion]:
    """Return the champion and the former ones, newest first, whether or not their folders exist; empty before any.

    Raises:
        CheckpointError: the file is damaged.
    """
    values = _read()
    if values is None:
        return []
    try:
        return [_from_json(entry) for entry in (values["champion"], *values["former"])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(str(error) or type(error).__name__) from error


def rejected_checkpoints() -> list[str]:
    """Return the ids of checkpoints that were rolled back, newest first.

    Raises:
        CheckpointError: the file is damaged.
    """
    return list((_read() or {}).get("rejected", ()))


def _read() -> dict[str, Any] | None:
    file = champion_file()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(str(error)) from error
    try:
        values = json.loads(text)
        version = values["format_version"]
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"format version {version} is not {FORMAT_VERSION}",
                where=str(file),
                remedy="use the version of zRAG that wrote it, or remove the file and " + _AGAIN,
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(str(error) or type(error).__name__) from error
    return values


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
    """Replace the whole record: the champion first, then the former ones, newest first (at least one).

    Args:
        rejected: ids of what was rolled back; left out, they stay.
    """
    with _locked():
        _write(champions, rejected_checkpoints() if rejected is None else rejected)


def _write(champions: Sequence[Champion], rejected: Sequence[str]) -> None:
    entries = [_to_json(entry) for entry in champions[: _FORMER + 1]]
    values = {
        "format_version": FORMAT_VERSION,
        "champion": entries[0],
        "former": entries[1:],
        "rejected": list(rejected[:_FORMER]),
    }
    write_json_atomic(champion_file(), values)


class _locked:
    """Lets one process at a time read and replace the file."""

    def __enter__(self) -> None:
        self._file = (paths.data_dir() / ".champion.lock").open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _to_json(champion: Champion) -> dict[str, Any]:
    folder = champion.folder.absolute()
    data = paths.data_path()
    inside = folder.is_relative_to(data)
    return asdict(champion) | {"folder": str(folder.relative_to(data) if inside else folder)}


def _from_json(values: dict[str, Any]) -> Champion:
    champion = Champion(**{**values, "folder": paths.data_path() / values["folder"]})
    texts = asdict(champion) | {"folder": "", "decoding": "", "proven": ""}
    if (
        not isinstance(champion.decoding, dict)
        or not isinstance(champion.proven, bool)
        or not all(isinstance(value, str) for value in texts.values())
    ):
        raise TypeError("a field is of another kind")
    return champion


def _damaged(reason: str) -> CheckpointError:
    return CheckpointError(
        f"the record of the champion is damaged ({reason.splitlines()[0]})",
        where=str(champion_file()),
        remedy="restore the file, or remove it and " + _AGAIN,
    )


def clear_champion() -> None:
    """Forget the champion and the former ones: there is none until the next promotion."""
    with _locked():
        champion_file().unlink(missing_ok=True)
