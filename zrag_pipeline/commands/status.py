"""`zrag status`: which memories there are, how old, how good, and which one is asked."""

from __future__ import annotations

import argparse
import datetime
import json
from typing import Any

from zrag_core.errors import WarehouseError
from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import Champion, memory_names, read_champions


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "status",
        run,
        summary="say which memories there are, how old and how good they are",
        description="List the memories, the one that is asked first: what they hold, since when, how they did in "
        "their checks, and what was decided last.",
        examples=["zrag status", "zrag status --json"],
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def run(arguments: argparse.Namespace) -> int:
    """Print the memories."""
    found = [_values(name, first=number == 0) for number, name in enumerate(memory_names())]
    if arguments.json:
        print(json.dumps({"memories": found}, ensure_ascii=False))
        return 0
    if not found:
        print("no memory yet: `zrag ingest FOLDER` makes one of your documents, `make demo` one of built-in ones")
        return 0
    for values in found:
        asked = "  (asked where none is named)" if values["asked"] else ""
        print(f"{values['memory']}{asked}")
        print(f"  holds:    {values['documents']:,} passages, {values['backbone']}; {values['checkpoint_id']}")
        print(f"  since:    {_age(values['promoted_at'])}; {values['reason']}")
        if values["checks"]:
            shown = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in values["checks"].items())
            print(f"  checks:   {shown}")
        if values["last_decision"]:
            print(f"  not asked: {values['last_decision']}")
    return 0


def _values(name: str, *, first: bool) -> dict[str, Any]:
    champion = read_champions(name)[0]
    documents, backbone = _contents(champion)
    checks, decision = _on_record(champion)
    return {
        "memory": name,
        "asked": first,
        "checkpoint_id": champion.checkpoint_id,
        "documents": documents,
        "backbone": backbone,
        "promoted_at": champion.promoted_at,
        "reason": champion.reason,
        "checks": checks,
        "last_decision": decision,
    }


def _contents(champion: Champion) -> tuple[int, str]:
    """How many documents a checkpoint holds, and its LLM."""
    try:
        config = json.loads((champion.folder / "config.json").read_text(encoding="utf-8"))
        with (champion.folder / "documents.jsonl").open(encoding="utf-8") as file:
            return sum(1 for _ in file), config["settings"]["backbone"]["name"]
    except (OSError, ValueError, KeyError):
        return 0, "its checkpoint is gone"


def _on_record(champion: Champion) -> tuple[dict[str, float], str]:
    """Figures of the champion's newest checks, and why a newer checkpoint of its memory was not promoted."""
    from zrag_pipeline.platform.warehouse import Warehouse

    if not paths.warehouse_path().is_file():
        return {}, ""
    warehouse = Warehouse(paths.warehouse_path())
    try:
        checks = warehouse.query(
            "SELECT check_name, arg_max(value, created_at) AS value FROM memory_checks WHERE checkpoint_id = ? "
            "AND passed IS NOT NULL GROUP BY 1 ORDER BY min(created_at), 1",
            [champion.checkpoint_id],
        )
        newest = warehouse.query(
            "SELECT d.checkpoint_id, d.promoted, d.reason FROM champion_decisions d JOIN corpora c "
            "ON c.corpus_version = d.corpus_version WHERE c.name = ? ORDER BY d.created_at DESC LIMIT 1",
            [champion.corpus],
        )
    except WarehouseError:  # a run is writing, or nothing is there yet
        return {}, ""
    decision = ""
    if len(newest) and not newest["promoted"][0] and newest["checkpoint_id"][0] != champion.checkpoint_id:
        decision = f"{newest['checkpoint_id'][0]}, {newest['reason'][0]}"
    return dict(zip(checks["check_name"], map(float, checks["value"]), strict=True)), decision


def _age(promoted_at: str) -> str:
    since = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(promoted_at)
    for seconds, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if since.total_seconds() >= seconds:
            n = int(since.total_seconds() // seconds)
            return f"{n} {unit}{'s' if n > 1 else ''} ago"
    return "just now"
