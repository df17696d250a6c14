"""`zrag documents`: what is in the champion's memory."""

from __future__ import annotations

import argparse
import json
import unicodedata

from rich.cells import cell_len, set_cell_size

from zrag_core.text import evidence_tokens
from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.commands.memory_choice import add_checkpoint_option, choose_memory
from zrag_pipeline.commands.terminal import clip, columns
from zrag_pipeline.platform.checkpoint_documents import checkpoint_documents

_LONGEST_ID = 40


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "documents",
        run,
        summary="list the documents in the memory",
        description="List the documents in the champion's memory: id, title and length in tokens.",
        examples=["zrag documents", "zrag documents --search 바다", "zrag documents --json | wc -l"],
    )
    parser.add_argument("--search", metavar="TEXT", help="only documents with this in their id, title or text")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    add_checkpoint_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the documents."""
    folder = choose_memory(arguments.checkpoint, arguments.memory).folder
    documents = checkpoint_documents(folder)
    wanted = _plain(arguments.search or "")
    found = [d for d in documents if wanted in _plain("\n".join((d.id, d.title, d.text)))]
    if arguments.json:
        for document in found:
            row = {"id": document.id, "title": document.title, "tokens": evidence_tokens(document.text)}
            print(json.dumps(row, ensure_ascii=False))
        return 0
    ids = [clip(document.id, _LONGEST_ID) for document in found]
    widest = max((*map(cell_len, ids), len("id")))
    if found:
        print(f"{set_cell_size('id', widest)}  tokens  title")
    for name, document in zip(ids, found, strict=True):
        title = clip(document.title, columns() - widest - 10)
        print(f"{set_cell_size(name, widest)}  {evidence_tokens(document.text):>6}  {title}".rstrip())
    tokens = sum(evidence_tokens(document.text) for document in found)
    of_all = f" of {len(documents):,}" if arguments.search else ""
    print(f"{len(found):,}{of_all} documents, {tokens:,} tokens, in {folder.name}")
    return 0


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
