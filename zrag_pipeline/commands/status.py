"""`zrag status`: which memories there are, how old, how good, and which one is asked."""

from __future__ import annotations

import argparse
import datetime
import json
from typing import Any

from zrag_core.errors import WarehouseError
from zrag_pipeline.commands.arguments import Commands, add_command
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
    from zrag_pipeline.commands.checkpoint_facts import contents

    champion = read_champions(name)[0]
    documents, backbone = contents(champion.folder)
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


def _on_record(champion: Champion) -> tuple[dict[str, float], str]:
    """Figures of the champion's newest checks, and why a newer checkpoint of its memory was not promoted."""
    from zrag_pipeline.commands.checkpoint_facts import checks_of, warehouse_on_record

    warehouse = warehouse_on_record()
    if warehouse is None:
        return {}, ""
    checks = {name: value for name, (value, _) in checks_of(warehouse, champion.checkpoint_id).items()}
    try:
        newest = warehouse.query(
            "SELECT d.checkpoint_id, d.promoted, d.reason FROM champion_decisions d JOIN corpora c "
            "ON c.corpus_version = d.corpus_version WHERE c.name = ? ORDER BY d.created_at DESC LIMIT 1",
            [champion.corpus],
        )
    except WarehouseError:  # a run is writing
        return checks, ""
    if len(newest) and not newest["promoted"][0] and newest["checkpoint_id"][0] != champion.checkpoint_id:
        return checks, f"{newest['checkpoint_id'][0]}, {newest['reason'][0]}"
    return checks, ""


def _age(promoted_at: str) -> str:
    since = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(promoted_at)
    for seconds, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if since.total_seconds() >= seconds:
            n = int(since.total_seconds() // seconds)
            return f"{n} {unit}{'s' if n > 1 else ''} ago"
    return "just now"
