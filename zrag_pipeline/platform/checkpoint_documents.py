"""What a checkpoint holds, without its model (which takes seconds to load): its documents, the name of its LLM."""

from __future__ import annotations

import json
from pathlib import Path

from zrag_core.corpus.types import Document
from zrag_core.errors import CheckpointError

FILE = "documents.jsonl"


def checkpoint_documents(folder: Path) -> tuple[Document, ...]:
    """Return the documents in a checkpoint folder, in the order of the memory's rows.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    file = folder / FILE
    try:
        with file.open(encoding="utf-8") as lines:
            return tuple(Document(**json.loads(line)) for line in lines)
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(file, error) from error


def checkpoint_backbone(folder: Path) -> str:
    """Return `backbone.name` of a checkpoint folder.

    Raises:
        CheckpointError: its configuration is missing or damaged.
    """
    file = folder / "config.json"
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["settings"]["backbone"]["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint is damaged ({str(error).splitlines()[0]})",
        where=str(file),
        remedy="restore the folder, or remove it and train again",
    )
