"""All of Z as one prefix: nothing is routed, attention alone has to find what answers (small N only)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from zrag_core.corpus.types import Question
from zrag_core.evidence import Retrieved
from zrag_core.model.architecture.language_memory import LanguageMemory
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.inference import language_prefix
from zrag_core.model.inference.prefix import Prefix, decode
from zrag_core.model.store.checkpoint import Checkpoint, load_checkpoint
from zrag_core.settings import DecodingSettings, Settings
from zrag_core.system_factory import SystemInputs
from zrag_core.systems import SystemSpec

_BATCH_BYTES = 2**28  # of keys and values that the questions decoded at once may hold


class FullPrefixSystem:
    """The model's own words with all of Z before the question.

    No document is chosen, so none is ranked (recall is 0 by construction, as for `closed_book`), and there is no
    confidence. The skill is trained on one span at a time, and reading thousands at once is another task than that.

    Args:
        name: system name in tables.
        checkpoint: what is read.
        settings: lengths and batch size.
        threads: CPU threads.

    Raises:
        SettingsError: the memory is too large, see `prefix.MOST_SLOTS`.
    """

    def __init__(self, name: str, checkpoint: Checkpoint, settings: DecodingSettings, *, threads: int = 2):
        self.name = name
        self._checkpoint = checkpoint
        self._settings = settings
        self._threads = threads
        self._prefix, self._decode = _reading_of(checkpoint.model)

    def retrieve(self, questions: Sequence[Question]) -> list[Retrieved]:
        """One `Retrieved` with free text per question."""
        torch.set_num_threads(self._threads)
        model, limit = self._checkpoint.model, self._checkpoint.model.query_tokens
        size = max(1, min(self._settings.batch_size, _BATCH_BYTES // max(1, self._prefix.size)))
        results: list[Retrieved] = []
        for start in range(0, len(questions), size):
            batch = questions[start : start + size]
            began = time.perf_counter()
            queries = [model.backbone.encode(question.question, limit) for question in batch]
            texts = self._decode(queries, self._settings.max_new_tokens)
            each = (time.perf_counter() - began) * 1000 / len(batch)
            results += [Retrieved(q.id, text=text, latency_ms=each) for q, text in zip(batch, texts, strict=True)]
        return results


def _reading_of(model: MemoryModel) -> tuple[Prefix, Callable[[Sequence[Sequence[int]], int], list[str]]]:
    """The prefix of a memory, and what decodes behind it."""
    if isinstance(model, LanguageMemory):
        own = language_prefix.read_prefix(model)
        return own, lambda queries, most: language_prefix.decode(model, own, queries, most)
    prefix = Prefix.read(model)
    return prefix, lambda queries, most: decode(model, prefix, queries, most)


def configure(spec: SystemSpec, settings: Settings) -> SystemSpec:
    """Reads the memory of the policy that the settings name."""
    return replace(spec, policy=settings.memory.policy, params={"k": "all"})


def make_full_prefix(spec: SystemSpec, inputs: SystemInputs) -> FullPrefixSystem:
    """All of the memory as one prefix."""
    settings = inputs.settings
    checkpoint = load_checkpoint(inputs.checkpoints[str(spec.policy)], device=settings.backbone.device)
    return FullPrefixSystem(spec.name, checkpoint, settings.decoding, threads=settings.backbone.cpu_threads)
