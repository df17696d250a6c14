"""`zrag add`: put documents into the champion's memory, now and for every later run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from zrag_core.corpus.types import Document
from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.commands.memory_choice import add_memory_option
from zrag_pipeline.commands.progress import ProgressLine
from zrag_pipeline.platform import paths
from zrag_pipeline.platform.checkpoint_documents import checkpoint_documents


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "add",
        run,
        summary="add documents to the champion's memory, or change them",
        description="Add documents to the champion's memory. FILE is a .jsonl file with a row "
        '{"id", "title", "text"} for each document, a .md or .txt file, a SQuAD or HotpotQA .json, or a folder of '
        "such. A document whose id is known takes the place of that one. Only the rows of these documents are "
        "written; the change is kept beside the corpus, which is not touched, and applied by every later run.",
        examples=["zrag add notes.md", "zrag add more.jsonl --dry-run"],
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="file or folder with the documents")
    add_memory_option(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")


def run(arguments: argparse.Namespace) -> int:
    """Add the documents and say what became of them."""
    from zrag_core.corpus.read import read_documents
    from zrag_pipeline.defs.champion.corpus_changes import change_corpus, change_lock, required_champion

    champion = required_champion(arguments.memory)
    # A file of the folder that was ingested has the id that it has there.
    root = Path(champion.source) if champion.source else None
    documents = read_documents(arguments.file.expanduser(), root)
    if arguments.dry_run:
        lines = _preview(documents, arguments.memory)
    else:
        reason = f"zrag add {arguments.file.name}"
        with change_lock(), ProgressLine(quiet=arguments.quiet) as progress:
            added = change_corpus(
                required_champion(arguments.memory),
                lambda o: o.with_added(documents),
                reason=reason,
                on_progress=progress,
            )
        lines = added.lines()
    print("\n".join(lines))
    return 0


def _preview(documents: Sequence[Document], memory: str | None) -> list[str]:
    from zrag_core.corpus.overlay import apply_overlay, load_overlay
    from zrag_core.corpus.types import Corpus
    from zrag_core.model.store.update import compare_documents
    from zrag_pipeline.defs.champion.corpus_changes import required_champion

    champion = required_champion(memory)
    before = checkpoint_documents(champion.folder)
    overlay = load_overlay(paths.overlay_dir(champion.corpus)).with_added(documents)
    change = compare_documents(before, apply_overlay(Corpus(champion.corpus, before, ()), overlay).documents)
    lines = [f"would add:    {name}" for name in change.added]
    lines += [f"would change: {name}" for name in change.changed]
    lines += [f"would remove: {name} (its source is replaced)" for name in change.removed]
    return lines or [f"nothing would change: {champion.checkpoint_id} holds this already"]
