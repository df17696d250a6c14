"""A long-context local model that has read the corpus once, its KV cache kept on disk, as MemoRAG's memory model.

Imports torch; import this module only where it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zrag_core.answering.thinking import strip_thinking
from zrag_core.corpus.types import Document, Question
from zrag_core.errors import CorpusError, SettingsError
from zrag_core.memorag.clue_memory import Clues, Draft, Usage
from zrag_core.memorag.clue_parser import parse_clues
from zrag_core.memorag.kv_cache import (
    KvCache,
    load_cache,
    model_fingerprint,
    nearest_cache,
    read_on,
    save_cache,
)
from zrag_core.memorag.kv_decoder import KvDecoder
from zrag_core.settings import MemoragSettings
from zrag_core.text import detect_language

_CHUNK_TOKENS = 1024  # read at once; bounds the memory that attention takes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a corpus fits into a model's window.

    Attributes:
        read, documents: documents that were read, and in all.
        read_tokens, tokens: their tokens, and those of all documents.
    """

    read: int
    documents: int
    read_tokens: int
    tokens: int

    def __str__(self) -> str:
        return (
            f"{self.read:,} of {self.documents:,} documents ({self.read_tokens:,} of {self.tokens:,} tokens) "
            "are in the model's window"
        )


class KvMemory:
    """Drafts and clues on top of a copy of the corpus' KV cache, greedily decoded.

    Use `KvMemory.build`.

    Attributes:
        coverage: what was read of the corpus.
        reused_tokens: tokens whose keys and values were on disk.
        cache: of the corpus; never changed.
    """

    name = "kv"

    def __init__(self, decoder: KvDecoder, cache: KvCache, coverage: Coverage, reused_tokens: int, batch_size: int):
        self.cache = cache
        self.coverage = coverage
        self.reused_tokens = reused_tokens
        self._decoder = decoder
        self._batch_size = batch_size

    @classmethod
    def build(
        cls,
        lm: Any,
        tokenizer: Any,
        documents: Sequence[Document],
        folder: Path,
        settings: MemoragSettings,
        earlier: Iterable[Path] = (),
    ) -> KvMemory:
        """Read the corpus in its order, as far as the window goes, and keep the cache in `folder`.

        What the folder already holds of the same beginning is not read again: documents that were added at the end of
        the corpus are read behind the others, and from a changed one on everything is read anew.

        Args:
            lm: a `transformers` causal LM with full attention; see `kv_decoder.load_causal_lm`.
            settings: window (left out, as many tokens as the model's configuration allows), sizes and limits.
            earlier: folders of other versions of the corpus, which are read on from where `folder` holds nothing.

        Raises:
            CorpusError: there are no documents.
            SettingsError: no document fits into the window, or the model's memory cannot be kept.
            CheckpointError: the folder is damaged or cannot be written.
        """
        if not documents:
            raise CorpusError("there is nothing to remember", remedy="check the corpus' location")
        decoder = KvDecoder(lm, tokenizer, settings.draft_tokens, settings.clue_tokens)
        head = decoder.head(detect_language("\n".join(document.text for document in documents)))
        room = (settings.kv_window or _window_of(lm)) - len(head) - decoder.longest_task()
        texts = [decoder.words(f"{document.contents}\n\n") for document in documents]
        ids: list[int] = []
        read = 0
        while read < len(texts) and len(ids) + len(texts[read]) <= room:
            ids += texts[read]
            read += 1
        if not read:
            raise SettingsError(
                f"the memory model's window leaves {max(0, room)} tokens, the first document has {len(texts[0])}",
                where="memory model",
                remedy="choose a model with a longer window",
            )
        coverage = Coverage(read, len(documents), len(ids), sum(map(len, texts)))
        if read < len(documents):
            log.warning("%s; the others are found by retrieval only", coverage)
        model = model_fingerprint(lm)
        kept = load_cache(folder, model, decoder.device)
        known = kept or nearest_cache(earlier, head + ids, model, decoder.device)
        cache, reused = read_on(lm, head + ids, known, _CHUNK_TOKENS)
        if kept is None or not reused == cache.tokens == kept.tokens:
            save_cache(folder, cache, model)
        return cls(decoder, cache, coverage, reused, settings.kv_batch_size)

    @property
    def figures(self) -> dict[str, float | None]:
        """What reading the corpus took."""
        return {
            "documents_read": self.coverage.read,
            "tokens_read": self.coverage.read_tokens,
            "tokens_reused": self.reused_tokens,
            "cache_mb": self.cache.megabytes,
        }

    def draft(self, questions: Sequence[Question]) -> list[Draft]:
        """Decode drafts.

        Raises:
            AnsweringError: there is no prompt in a question's language.
        """
        decoder = self._decoder
        tasks = [decoder.task("draft", question) for question in questions]
        return [Draft(strip_thinking(text), usage) for text, usage in self._write(tasks, decoder.draft_tokens)]

    def clues(self, questions: Sequence[Question], drafts: Sequence[Draft]) -> list[Clues]:
        """Decode clues.

        Raises:
            AnsweringError: there is no prompt in a question's language.
        """
        decoder, pairs = self._decoder, list(zip(questions, drafts, strict=True))
        tasks = [decoder.task("clues", question, draft.text) for question, draft in pairs]
        return [
            Clues(parse_clues(text, question.question, draft.text), usage)
            for (question, draft), (text, usage) in zip(pairs, self._write(tasks, decoder.clue_tokens), strict=True)
        ]

    def _write(self, tasks: Sequence[list[int]], limit: int) -> list[tuple[str, Usage]]:
        written: list[tuple[str, Usage]] = []
        for start in range(0, len(tasks), self._batch_size):
            written += self._decoder.write(self.cache, tasks[start : start + self._batch_size], limit)
        return written


def _window_of(lm: Any) -> int:
    window = getattr(lm.config.get_text_config(), "max_position_embeddings", None)
    if window is None:
        raise SettingsError(
            "the memory model does not say how long its window is", where="memory model", remedy="give the window"
        )
    return int(window)
