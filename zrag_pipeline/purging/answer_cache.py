"""The cache of paid answers, without those that quote the document or whose prompt did."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path

from zrag_pipeline.purging.erasure import Erasure
from zrag_pipeline.purging.patterns import Patterns
from zrag_pipeline.purging.redaction import delete_rows


def purge_answer_cache(
    path: Path, patterns: Patterns, prompt_hashes: Collection[str], summaries: Iterable[Path]
) -> Erasure:
    """Delete the answers that quote the document, or whose prompt was about it or quoted it.

    Args:
        prompt_hashes: of prompts that were about the document or quoted it.
        summaries: files of MemoRAG's summaries, which are deleted: the replies that they were taken from go too.

    Raises:
        ZragError: the cache is in use.
    """
    if not path.exists():
        return Erasure("answer cache")
    texts = [text for file in summaries if (text := _summary(file))]

    def unwanted(row: dict) -> bool:
        answer = row["answer"]
        return (
            row["prompt_hash"] in prompt_hashes
            or patterns.find(answer) is not None
            or any(text in answer for text in texts)
        )

    return Erasure("answer cache", {"answers": delete_rows(path, "answers", unwanted, patterns)})


def _summary(file: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return json.loads(file.read_text(encoding="utf-8"))["summary"]
    return None
