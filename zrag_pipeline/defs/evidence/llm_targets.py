"""Evidence targets from questions that the answering model writes about the documents.

They are trained on, so none may ask what evaluation asks: the model knows nothing of the splits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from zrag_core.answering.ledger import SpendingLedger
from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, EvidenceTarget, Question
from zrag_core.errors import SettingsError
from zrag_core.sentences import split_sentences
from zrag_core.settings import Settings, TargetSettings
from zrag_core.text import comparison_key


def llm_targets(
    corpus: Corpus,
    settings: Settings,
    environ: Mapping[str, str],
    cache_path: Path,
    ledger: SpendingLedger | None = None,
) -> tuple[list[EvidenceTarget], str]:
    """Let the answering model write questions and keep those that lead back to their document by BM25.

    Questions of the corpus and questions about evidence that is held out for dev and test are left out.

    Args:
        ledger: holds the run's spending limit; left out, one of its own.

    Returns:
        the targets, and a line that says how many were kept and why others were not.

    Raises:
        SettingsError: no answering model is configured.
    """
    from zrag_core.answering.choice import choose_reader
    from zrag_core.answering.client import OpenAIReader
    from zrag_core.answering.llm_questions import write_questions
    from zrag_core.baselines.bm25 import Bm25Index, Bm25System

    local = settings.answers.reader == "local"  # so small a model writes no usable questions
    reader = None if local else choose_reader(settings.answers, environ, cache_path, ledger=ledger)
    if not isinstance(reader, OpenAIReader):
        raise SettingsError(
            "questions written by an LLM need a larger one" if local else "questions written by an LLM need one",
            where="targets.llm_questions_per_document",
            remedy=f"export {settings.answers.api_key_env}, give answers.base_url with reader openai, or set it to 0",
        )
    bm25 = Bm25System(Bm25Index.build(corpus.documents, settings.baselines), corpus.documents)

    def route(question: str) -> str | None:
        found = bm25.retrieve([Question("route", question)])[0].document_ids
        return found[0] if found else None

    written = write_questions(reader, corpus.documents, settings.targets.llm_questions_per_document, route=route)
    kept, leaking = without_leaks(written.targets, corpus)
    rejected = ", ".join(f"{n} {reason}" for reason, n in (written.rejected + leaking).items()) or "none"
    return kept, f"{len(kept)} questions written by {reader.model}; rejected: {rejected}"


def without_leaks(targets: Sequence[EvidenceTarget], corpus: Corpus) -> tuple[list[EvidenceTarget], Counter[str]]:
    """Drop targets that would train on what is evaluated.

    Returns:
        the targets that remain, and how many were dropped by reason: "asked in the corpus" (the words of one
        of its questions, whatever their split) and "evidence held out" (a sentence of a target of another
        split than train, or a part of one, in the same document).
    """
    asked = {comparison_key(question.question) for question in corpus.questions}
    held = _held_out(corpus)
    kept: list[EvidenceTarget] = []
    dropped: Counter[str] = Counter()
    for target in targets:
        if comparison_key(target.query) in asked:
            dropped["asked in the corpus"] += 1
        elif any(_overlaps(target.evidence, held.get(document_id, set())) for document_id in target.document_ids):
            dropped["evidence held out"] += 1
        else:
            kept.append(target)
    return kept, dropped


def _held_out(corpus: Corpus) -> dict[str, set[str]]:
    """Normalised sentences of the targets that are not trained on, by document."""
    held: dict[str, set[str]] = defaultdict(set)
    for target in build_targets(corpus, TargetSettings(self_study_per_sentence=0), seed=0):
        if target.split != "train":
            for document_id in target.document_ids:
                held[document_id].update(_sentences(target.evidence))
    return held


def _sentences(text: str) -> list[str]:
    return [comparison_key(sentence.text) for sentence in split_sentences(text)]


def _overlaps(evidence: str, held: set[str]) -> bool:
    """Whether a sentence of `evidence` is a held-out one, or a run of words of one, or the other way round."""
    return any(f" {a} " in f" {b} " or f" {b} " in f" {a} " for a in _sentences(evidence) for b in held)
