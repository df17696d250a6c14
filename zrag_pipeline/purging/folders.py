"""Checkpoints, indexes, MemoRAG's memories, reports and other files below the data folder and Dagster's home."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from zrag_core.files import write_text_atomic
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import clear_champion, read_champions, write_champions
from zrag_pipeline.purging.erased import Erased
from zrag_pipeline.purging.patterns import Patterns
from zrag_pipeline.purging.search import Searched, files_below, search_file
from zrag_pipeline.purging.sqlite_files import without
from zrag_pipeline.purging.target import Target, read_rows

# What a killed process leaves: see `zrag_core.files`.
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{12}\.tmp(\.old)?")


def purge_leftovers(roots: Iterable[Path]) -> Erased:
    """Remove the unfinished files and folders of processes that were killed."""
    found = [path for root in roots for path in root.rglob(".*.tmp*") if _LEFTOVER.fullmatch(path.name)]
    for path in found:
        _remove(path)
    return Erased("unfinished", {"files and folders": len(found)})


def purge_checkpoints(target: Target) -> Erased:
    """Delete every checkpoint that holds the document, models registered with one, and training states.

    The champion's record forgets what is gone: there is no way back to it. Where the champion itself goes, the newest
    former one without the document takes its place; without any, there is no champion.

    Raises:
        OSError: a folder cannot be deleted.
    """
    deleted = 0
    for file in sorted(paths.data_path().rglob("documents.jsonl")):
        if not (file.parent / "memory.safetensors").is_file():
            continue
        if holds(file.parent, target):
            # A registered model is its checkpoint; without it, it could not be served.
            models = (parent for parent in file.parents if (parent / "MLmodel").is_file())
            shutil.rmtree(next(models, file.parent))
            deleted += 1
    states = [path for path in (paths.checkpoints_dir() / ".training").glob("*") if path.is_dir()]
    for path in states:
        shutil.rmtree(path)
    champions = read_champions()
    kept = [champion for champion in champions if champion.folder.exists() and not holds(champion.folder, target)]
    if kept and len(kept) < len(champions):
        write_champions(kept)
    elif champions and not kept:
        clear_champion()
    counts = {"folders": deleted, "training states": len(states), "champions": len(champions) - len(kept)}
    return Erased("checkpoints", counts)


def holds(folder: Path, target: Target) -> bool:
    """Whether a checkpoint holds the document."""
    file = folder / "documents.jsonl"
    held = {(document.id, document.content_hash) for document in target.documents}
    if any((row.id, row.content_hash) in held for row in read_rows(file)):
        return True
    return file.is_file() and target.patterns.find(_text(file)) is not None


def purge_derived(target: Target, known_versions: Iterable[str]) -> Erased:
    """Delete what was made from a corpus that held the document, and is made again by the next run.

    Summaries do not say what they were made of, and a tokenizer's words come from every document: all of them go.

    Args:
        known_versions: corpus versions of which it is known that they did not hold it; of others nothing is known.
    """
    innocent = set(known_versions) - set(target.versions)
    memorag = paths.data_path() / "memorag"
    kinds = {
        "indexes": _folders(paths.data_path() / "indexes", innocent),
        "KV caches": _folders(memorag / "kv", innocent),
        "summaries": sorted((memorag / "summaries").glob("*")),
        "initial weights": _folders(paths.data_path() / "backbones", set()),
    }
    for found in kinds.values():
        for path in found:
            _remove(path)
    return Erased("derived", {kind: len(found) for kind, found in kinds.items()})


def summaries() -> list[Path]:
    """The files of MemoRAG's summaries."""
    return sorted((paths.data_path() / "memorag" / "summaries").glob("*.json"))


def redact_files(store: str, roots: Iterable[Path], patterns: Patterns) -> Erased:
    """Cut the document out of the text files below some folders; files of other kinds that hold it are deleted."""
    redacted = deleted = 0
    for path in files_below(roots):
        searched = Searched()
        search_file(path, patterns, searched)
        if not searched.found:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            path.unlink()
            deleted += 1
        else:
            write_text_atomic(path, without(text, patterns))
            redacted += 1
    return Erased(store, {"files with text cut out": redacted, "files": deleted})


def _folders(parent: Path, innocent: set[str]) -> list[Path]:
    return sorted(path for path in parent.glob("*") if path.is_dir() and path.name not in innocent)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="ignore")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
