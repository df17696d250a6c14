"""The files below a folder of texts."""

from __future__ import annotations

from collections import deque
from pathlib import Path


def visible_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The files below a folder in a fixed order, each once, and a line on each thing that cannot be looked into.

    Hidden files and folders are skipped. Links are followed; what is reached in two ways has its own place where that
    lies below the folder, else that of the first link.
    """
    files: list[Path] = []
    lost: list[str] = []
    seen: set[Path] = set()
    waiting = deque([folder])
    while waiting:
        at = waiting.popleft()
        if (real := at.resolve()) in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(at.iterdir())
        except OSError as error:
            lost.append(f"{at.relative_to(folder).as_posix()}: cannot be read ({error.strerror})")
            continue
        for path in (entry for entry in entries if not entry.name.startswith(".")):
            if path.is_dir():
                # Linked folders come last, so that what they lead to keeps its own place.
                (waiting.append if path.is_symlink() else waiting.appendleft)(path)
            elif path.is_file():
                files.append(path)
            elif path.is_symlink():
                lost.append(f"{path.relative_to(folder).as_posix()}: a link to nothing")
    return _each_once(files, folder), sorted(lost)


def _each_once(files: list[Path], folder: Path) -> list[Path]:
    places: dict[Path, Path] = {}
    for path in sorted(files, key=Path.is_symlink):
        places.setdefault(path.resolve(), path)
    return sorted(places.values(), key=lambda path: path.relative_to(folder).as_posix())
