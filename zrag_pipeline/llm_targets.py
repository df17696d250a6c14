"""Evidence targets from questions that the answering model writes about the documents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zrag_core.corpus.types import Corpus, EvidenceTarget, Question
from zrag_core.errors import SettingsError
from zrag_core.settings import Settings


def llm_targets(
    corpus: Corpus, settings: Settings, environ: Mapping[str, str], cache_path: Path
) -> tuple[list[EvidenceTarget], str]:
    """Let the answering model write questions and keep those that lead back to their document by BM25.

    Returns:
        the targets, and a line that says how many were kept and why others were not.

    Raises:
        SettingsError: no answering model is configured.
    """
    from zrag_core.answering.choice import choose_reader
    from zrag_core.answering.client import OpenAIReader
    from zrag_core.answering.llm_questions import write_questions
    from zrag_core.baselines.bm25 import Bm25Index, Bm25System

    reader = choose_reader(settings.answers, environ, cache_path)
    if not isinstance(reader, OpenAIReader):
        raise SettingsError(
            "questions written by an LLM need one",
            where="targets.llm_questions_per_document",
            remedy=f"export {settings.answers.api_key_env}, set answers.base_url, or set it to 0",
        )
    bm25 = Bm25System(Bm25Index.build(corpus.documents, settings.baselines), corpus.documents)

    def route(question: str) -> str | None:
        found = bm25.retrieve([Question("route", question)])[0].document_ids
        return found[0] if found else None

    written = write_questions(reader, corpus.documents, settings.targets.llm_questions_per_document, route=route)
    rejected = ", ".join(f"{n} {reason}" for reason, n in written.rejected.items()) or "none"
    return written.targets, f"{len(written.targets)} questions written by {reader.model}; rejected: {rejected}"
