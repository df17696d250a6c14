"""A question set asked of a memory in shards, by workers that have opened its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from zrag_core.corpus.types import Question
from zrag_core.evidence import EvidenceSystem, Retrieved
from zrag_core.model.inference.create_system import create_system, make_memory_system, reads_memory_alone
from zrag_core.model.inference.memory_system import MemorySystem
from zrag_core.model.store.checkpoint import load_checkpoint
from zrag_core.settings import DecodingSettings
from zrag_core.sharding.engine import Engine
from zrag_core.sharding.shards import cut
from zrag_core.system_factory import SystemInputs
from zrag_core.systems import OWN_WORDS


class QuestionReader:
    """Asks a system shards of questions."""

    def __init__(self, system: MemorySystem):
        self._system = system

    def __call__(self, questions: Sequence[Question]) -> list[Retrieved]:
        """What the system finds, whatever it was asked before."""
        self._system.checkpoint.model.forget_readings()
        return self._system.retrieve(questions)


@dataclass(frozen=True, slots=True)
class ReadingRecipe:
    """A memory system over a checkpoint folder, which every machine can read; see `create_system`.

    Attributes:
        threads: CPU threads.
    """

    name: str
    checkpoint: Path
    device: str
    decoding: DecodingSettings
    free: bool
    threads: int

    def open(self) -> QuestionReader:
        """See `Recipe`."""
        torch.set_num_threads(self.threads)
        checkpoint = load_checkpoint(self.checkpoint, device=self.device)
        return QuestionReader(create_system(self.name, checkpoint, self.decoding, free=self.free, threads=self.threads))


class ShardedSystem:
    """A memory system whose questions go to an engine's workers.

    Args:
        recipe: makes the system where a worker works.
        size: questions of a shard.
        own: a worker that is open in this process.
        on_done: called with the questions that were asked so far and their number.
    """

    def __init__(
        self,
        recipe: ReadingRecipe,
        engine: Engine,
        size: int,
        *,
        own: QuestionReader | None = None,
        on_done: Callable[[int, int], None] | None = None,
    ):
        self.name = recipe.name
        self._recipe, self._engine, self._own, self._on_done = recipe, engine, own, on_done
        batch = recipe.decoding.batch_size
        self._size = -(-size // batch) * batch  # so that batches are those of asking all at once

    def retrieve(self, questions: Sequence[Question]) -> list[Retrieved]:
        """One `Retrieved` per question, in order."""

        def on_done(shards: int) -> None:
            if self._on_done:
                self._on_done(min(shards * self._size, len(questions)), len(questions))

        found = self._engine.run(self._recipe, cut(questions, self._size), own=self._own, on_done=on_done)
        return [item for part in found for item in part]


def make_sharded(
    inputs: SystemInputs, name: str, engine: Engine, on_done: Callable[[int, int], None] | None = None
) -> EvidenceSystem:
    """The system of a name; where it reads a memory and nothing else, the engine's workers are asked."""
    spec, settings = inputs.spec(name), inputs.settings
    if not reads_memory_alone(spec):
        return inputs.make(name)
    recipe = ReadingRecipe(
        name,
        inputs.checkpoints[str(spec.policy)],
        settings.backbone.device,
        settings.decoding,
        spec.evidence == OWN_WORDS,
        settings.backbone.cpu_threads,
    )
    own = QuestionReader(make_memory_system(spec, inputs)) if engine.is_local else None
    return ShardedSystem(recipe, engine, settings.engine.questions_per_shard, own=own, on_done=on_done)
