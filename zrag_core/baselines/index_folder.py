"""Index folders that describe themselves: `config.json` beside plain data files, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zrag_core.errors import CheckpointError
from zrag_core.files import atomic_folder

CONFIG = "config.json"
FORMAT_VERSION = 1
_REBUILD = "build the index again"


def write_index_folder(folder: Path, kind: str, config: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write an index folder, replacing an earlier one.

    Args:
        folder: where it goes; missing parents are made.
        kind: what it is ("bm25", "dense"); checked when it is read.
        config: what stands in `config.json` beside kind and format version.
        files: name to content of the other files.

    Raises:
        CheckpointError: the folder cannot be written; what stood there before is kept.
    """
    described = {"kind": kind, "format_version": FORMAT_VERSION, **config}
    try:
        with atomic_folder(folder) as temporary:
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            text = json.dumps(described, ensure_ascii=False, indent=2)
            (temporary / CONFIG).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            f"cannot write the index: {error.strerror or error}",
            where=str(folder),
            remedy="free the path or choose another",
        ) from error


def read_index_config(folder: Path, kind: str) -> dict[str, Any]:
    """Return `config.json` of an index folder of this kind.

    Raises:
        CheckpointError: no such folder, another kind, or a format that this code does not know.
    """
    path = Path(folder) / CONFIG
    content = read_index_file(folder, CONFIG)
    try:
        config: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise CheckpointError("not valid JSON", where=str(path), remedy=_REBUILD) from error
    found = config.get("kind") if isinstance(config, dict) else None
    if found != kind:
        raise CheckpointError(f"not a {kind} index (kind: {found!r})", where=str(path), remedy=_REBUILD)
    if config.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"format version {config.get('format_version')!r}, this code reads {FORMAT_VERSION}",
            where=str(path),
            remedy=_REBUILD,
        )
    return config


def read_index_file(folder: Path, name: str) -> bytes:
    """Return the content of one file of an index folder.

    Raises:
        CheckpointError: the file is missing or cannot be read.
    """
    path = Path(folder) / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the index: {error.strerror}", where=str(path), remedy=_REBUILD) from error


def damaged(folder: Path, what: str) -> CheckpointError:
    """An error for an index folder whose files do not agree with each other."""
    return CheckpointError(f"the index is damaged: {what}", where=str(folder), remedy=_REBUILD)
