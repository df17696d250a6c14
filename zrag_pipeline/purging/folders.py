"""Checkpoints, indexes, MemoRAG's memories and unfinished files below the data folder and Dagster's home."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import all_champions, write_champions
from zrag_pipeline.platform.checkpoint_documents import FILE
from zrag_pipeline.purging.erasure import Erasure
from zrag_pipeline.purging.target import Target, documents_in

# What a killed process leaves: see `zrag_core.files`.
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{12}\.tmp(\.old)?")


def purge_leftovers(roots: Iterable[Path]) -> Erasure:
    """Remove the unfinished files and folders of processes that were killed."""
    found = [path for root in roots for path in root.rglob(".*.tmp*") if _LEFTOVER.fullmatch(path.name)]
    for path in found:
        _remove(path)
    return Erasure("unfinished", {"files and folders": len(found)})


def purge_checkpoints(target: Target) -> Erasure:
    """Delete every checkpoint that holds the document, models registered with one, and training states.

    The champion's record forgets what is gone: there is no way back to it. Where the champion itself goes, the newest
    former one without the document takes its place; without any, there is no champion.

    Raises:
        OSError: a folder cannot be deleted.
    """
    deleted = 0
    for file in sorted(paths.data_path().rglob(FILE)):
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
    champions = all_champions()
    kept = [champion for champion in champions if champion.folder.exists() and not holds(champion.folder, target)]
    if len(kept) < len(champions):
        write_champions(kept)
    counts = {"folders": deleted, "training states": len(states), "champions": len(champions) - len(kept)}
    return Erasure("checkpoints", counts)


def holds(folder: Path, target: Target) -> bool:
    """Whether a checkpoint holds the document."""
    file = folder / FILE
    held = {(document.id, document.content_hash) for document in target.documents}
    if any((row.id, row.content_hash) in held for row in documents_in(folder)):
        return True
    return file.is_file() and target.patterns.find(file.read_text(encoding="utf-8", errors="ignore")) is not None


def purge_derived(target: Target, known_versions: Iterable[str]) -> Erasure:
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
    return Erasure("derived", {kind: len(found) for kind, found in kinds.items()})


def summaries() -> list[Path]:
    """The files of MemoRAG's summaries."""
    return sorted((paths.data_path() / "memorag" / "summaries").glob("*.json"))


def _folders(parent: Path, innocent: set[str]) -> list[Path]:
    return sorted(path for path in parent.glob("*") if path.is_dir() and path.name not in innocent)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
