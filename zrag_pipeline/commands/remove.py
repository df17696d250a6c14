"""`zrag remove`: take documents out of the champion's memory, and with `--purge` out of everything that is kept."""

from __future__ import annotations

import argparse
import sys

from zrag_core.errors import CorpusError, ZragError
from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.commands.memory_choice import add_memory_option
from zrag_pipeline.commands.progress import ProgressLine
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.champion_file import all_champions
from zrag_pipeline.platform.checkpoint_documents import checkpoint_documents


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "remove",
        run,
        summary="remove documents from the champion's memory, or erase them everywhere",
        description="Remove documents from the champion's memory. They stay out of every later run, also where the "
        "corpus still holds them; the former checkpoint is kept for `zrag rollback`. With --purge a document is "
        "erased everywhere it could stand (older checkpoints, warehouse, answer cache, indexes, MLflow, reports, "
        "Dagster's history), and everything is searched again to prove it. That cannot be undone.",
        examples=["zrag remove town-17", "zrag remove notes.md   (all its passages)", "zrag remove --purge town-17"],
    )
    parser.add_argument("ids", nargs="+", metavar="ID", help="id of a document, or of the file it was cut from")
    add_memory_option(parser)
    parser.add_argument("--purge", action="store_true", help="erase the documents from everything that is kept")
    parser.add_argument("--yes", action="store_true", help="do not ask before erasing")


def run(arguments: argparse.Namespace) -> int:
    """Remove the documents; the exit code is 1 where something of a purged document is left."""
    ids = list(dict.fromkeys(arguments.ids))
    if arguments.purge:
        return _purge(ids, confirmed=arguments.yes)
    from zrag_core.corpus.overlay import find_documents, load_overlay
    from zrag_pipeline.defs.champion.corpus_changes import change_corpus, change_lock, required_champion

    reason = f"zrag remove {' '.join(ids)}"
    required_champion(arguments.memory)  # before anything is made
    with change_lock(), ProgressLine(quiet=arguments.quiet) as progress:
        champion = required_champion(arguments.memory)
        documents = checkpoint_documents(champion.folder)
        found = {name: find_documents(documents, name) for name in ids}
        # What was removed before is no mistake: a command that was stopped half-way may be given again.
        known = load_overlay(paths.overlay_dir(champion.corpus)).removed
        if missing := [name for name in ids if not found[name] and name not in known]:
            raise CorpusError(
                f"no document '{missing[0]}' in the memory",
                where=champion.checkpoint_id,
                remedy="`zrag documents` lists them; nothing was removed",
            )
        removed = change_corpus(champion, lambda o: o.with_removed(found), reason=reason, on_progress=progress)
    print("\n".join(removed.lines()))
    return 0


def _purge(ids: list[str], *, confirmed: bool) -> int:
    from zrag_pipeline.defs.champion.corpus_changes import change_lock
    from zrag_pipeline.purging.purge import erase
    from zrag_pipeline.purging.target import find_target

    if not all_champions() and not paths.warehouse_path().is_file():  # before anything is made
        raise CorpusError(f"no document '{ids[0]}': nothing is on record", where=str(paths.data_path()))
    with change_lock():
        target = find_target(ids)
        print("\n".join(target.lines()))
        if not confirmed and not _asked():
            print("nothing was erased")
            return 1
        return 0 if erase(target, print) else 1


def _asked() -> bool:
    if not sys.stdin.isatty():
        raise ZragError(
            "erasing asks for confirmation, and there is no terminal to ask on", remedy="add --yes to the command"
        )
    print("Erase this everywhere? It cannot be undone. [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")
