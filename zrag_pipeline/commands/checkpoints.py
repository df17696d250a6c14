"""`zrag checkpoints`: the checkpoints in the data folder."""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size

from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import Champion, all_champions, memory_names

_COLUMNS = ("checkpoint", "corpus", "written", "documents", "size", "checks", "")


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "checkpoints",
        run,
        summary="list the checkpoints: corpus, documents, size, checks, and which are champions",
        description="List the checkpoints in the data folder, the newest first: the corpus that each holds, when it "
        "was written, how many documents it has, its size on disk, how many of its memory checks passed, and whether "
        "it is or was a champion. `zrag promote CHECKPOINT` makes one the champion.",
        examples=["zrag checkpoints", "zrag checkpoints --json"],
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the checkpoints."""
    folder = paths.data_path() / "checkpoints"
    found = _checkpoints(folder)
    if arguments.json:
        for values in found:
            print(json.dumps(values, ensure_ascii=False))
        return 0
    if not found:
        makes = "`zrag ingest FOLDER` makes one of your documents, `make demo` one of built-in ones"
        print(f"no checkpoint in {folder}: {makes}")
        return 0
    rows = [_COLUMNS, *map(_row, found)]
    widths = [max(cell_len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    for row in rows:
        print("  ".join(set_cell_size(text, width) for text, width in zip(row, widths, strict=True)).rstrip())
    total = sum(values["bytes"] for values in found)
    print(f"{len(found):,} checkpoint{'s' if len(found) > 1 else ''}, {_size(total)}, in {folder}")
    return 0


def _checkpoints(folder: Path) -> list[dict[str, Any]]:
    """What is known of each checkpoint, the newest first."""
    from zrag_pipeline.commands.checkpoint_facts import checks_of, contents, corpus_names, warehouse_on_record

    files = [file for file in folder.glob("*/config.json") if not file.parent.name.startswith(".")]
    files.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    warehouse, champions = warehouse_on_record() if files else None, all_champions()
    names = corpus_names(warehouse) if warehouse else {}
    found = []
    for file in files:
        documents, backbone = contents(file.parent)
        version = _config(file).get("corpus_version", "")
        own = [champion for champion in champions if champion.checkpoint_id == file.parent.name]
        checks = checks_of(warehouse, file.parent.name) if warehouse else {}
        written = datetime.datetime.fromtimestamp(file.stat().st_mtime, datetime.UTC)
        found.append(
            {
                "checkpoint_id": file.parent.name,
                "corpus": own[0].corpus if own else names.get(version),
                "corpus_version": version,
                "backbone": backbone,
                "written_at": written.isoformat(timespec="seconds"),
                "documents": documents,
                "bytes": sum(path.stat().st_size for path in file.parent.rglob("*") if path.is_file()),
                "checks": {name: {"value": value, "passed": passed} for name, (value, passed) in checks.items()},
                "champion_of": _reigning(own, champions),
                "was_champion": bool(own),
            }
        )
    return found


def _config(file: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # damaged; the row says that it holds nothing
        return {}
    return config


def _reigning(own: list[Champion], champions: list[Champion]) -> list[str]:
    """The memories whose champion a checkpoint is."""
    first = {champion.corpus: champion.checkpoint_id for champion in reversed(champions)}
    return [entry.corpus for entry in own if first[entry.corpus] == entry.checkpoint_id]


def _row(values: dict[str, Any]) -> tuple[str, ...]:
    passed = [check["passed"] for check in values["checks"].values()]
    written = datetime.datetime.fromisoformat(values["written_at"]).astimezone()
    remark = "was champion" if values["was_champion"] else ""
    if values["champion_of"]:
        remark = "champion, asked" if memory_names()[0] in values["champion_of"] else "champion"
    return (
        values["checkpoint_id"],
        values["corpus"] or "unknown",
        f"{written:%Y-%m-%d %H:%M}",
        f"{values['documents']:,}",
        _size(values["bytes"]),
        f"{sum(passed)} of {len(passed)}" if passed else "none",
        remark,
    )


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB" if n >= 1e5 else f"{n / 1e3:.1f} kB"
