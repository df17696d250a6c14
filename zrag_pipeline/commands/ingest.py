"""`zrag ingest`: a memory of your own documents, in one command."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zrag_core.errors import ZragError
from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.commands.dagster_home import prepare_dagster_home
from zrag_pipeline.platform.champion_file import read_champion, read_champions
from zrag_pipeline.platform.markdown_text import plain_text

if TYPE_CHECKING:
    import dagster as dg

_NOTES = 12  # lines of what was read that are shown


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "ingest",
        run,
        summary="make a memory of your own documents",
        description="Read documents, write them into a memory, check it, and ask it from then on. LOCATION is a folder "
        "or file (Markdown, text, PDF, Word, HTML, e-mail, CSV, JSON lines, SQuAD, HotpotQA) or the name of a Hugging "
        "Face data set. Given again, only what is new or changed is written, and what is gone is taken out. It runs "
        "the Dagster job `ingest`, with the configuration own.yaml.",
        examples=["zrag ingest ~/handbook", "zrag ingest notes.pdf --memory notes"],
    )
    parser.add_argument("location", metavar="LOCATION", help="folder, file, or name of a data set")
    parser.add_argument("--memory", metavar="NAME", help="name of the memory (default: the folder's or file's name)")
    parser.add_argument("--backbone", metavar="NAME", help="the local LLM (default: chosen by language)")


def run(arguments: argparse.Namespace) -> int:
    """Run the job and say what came of it; exit code 1 where the memory is not the one that is asked now."""
    began = time.perf_counter()
    location = arguments.location
    path = Path(location).expanduser()
    if path.exists():
        location = str(path.resolve())
    elif location.startswith((".", "/", "~")):
        raise ZragError("no such file or folder", where=location, remedy="check the path")
    name = arguments.memory or _name_of(location)
    _refuse_other_source(name, location)
    from zrag_pipeline.defs.champion.corpus_changes import read_anew

    read_anew(name, Path(location))
    prepare_dagster_home()
    import dagster as dg

    from zrag_pipeline.defs.jobs import own_config

    config = own_config(location, name, arguments.backbone)
    if arguments.quiet or not sys.stderr.isatty():
        config["loggers"] = {"console": {"config": {"log_level": "CRITICAL"}}}
    from zrag_pipeline.definitions import defs

    with dg.DagsterInstance.get() as instance:
        job = defs.resolve_job_def("ingest")
        result = job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)
        if not result.success:
            return 1
        print("\n".join(_summary(result, arguments.quiet)))
        made = _metadata(result).get("memory", {}).get("checkpoint_id")
    champion = read_champion(name)
    if champion is None or champion.checkpoint_id != made:
        return 1
    print(f'done in {time.perf_counter() - began:.0f} s; ask it now:  zrag ask "..."')
    return 0


def _name_of(location: str) -> str:
    """A memory's name for a location: that of the folder, the file or the data set."""
    name = Path(location.rstrip("/")).name
    return re.sub(r"\s+", "-", name if Path(location).is_dir() else name.split(".")[0]) or "documents"


def _refuse_other_source(name: str, location: str) -> None:
    """A memory follows one source; documents of another would take the place of all it holds."""
    former = next((champion.source for champion in read_champions(name)), "")
    if former and former != location:
        raise ZragError(
            f"the memory '{name}' holds the documents of {former}",
            where=location,
            remedy="give this one another name (--memory NAME), or add single files with `zrag add`",
        )


def _summary(result: dg.ExecuteInProcessResult, quiet: bool) -> list[str]:
    """What was read, written and decided, as the assets recorded it."""
    metadata = _metadata(result)
    read, memory, decided = (metadata.get(key, {}) for key in ("documents", "memory", "champion"))
    notes = [plain_text(line.removeprefix("- ")) for line in str(read.get("notes", "")).splitlines()]
    lines = []
    if not quiet:
        shown = notes[:_NOTES] + ([f"and {len(notes) - _NOTES} more notes"] if len(notes) > _NOTES else [])
        lines += [f"{'read' if n == 0 else '':<10} {note}" for n, note in enumerate(shown)]
        written = memory.get("rows_written", memory.get("documents", 0))
        size = memory.get("bytes_per_document")
        each = f", {size / 1000:.1f} kB each" if size else ""
        lines.append(f"{'written':<10} {written:.0f} of {memory.get('documents', 0):.0f} passages{each}")
    verdict = "is asked from now on" if decided.get("promoted") else "is NOT asked"
    lines.append(f"{'memory':<10} {decided.get('checkpoint_id')} {verdict}: {decided.get('reason')}")
    return lines


def _metadata(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """What the assets recorded, by asset."""
    made = (event.materialization for event in result.get_asset_materialization_events())
    return {
        item.asset_key.to_user_string(): {key: getattr(value, "value", None) for key, value in item.metadata.items()}
        for item in made
    }
