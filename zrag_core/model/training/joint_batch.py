"""One micro-batch of joint training: what is asked, which rows are read for it, and what is rebuilt."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

from zrag_core.model.architecture.backbone import Backbone
from zrag_core.model.training.examples import (
    ReadExample,
    TrainingSet,
    mask_query,
    rows_read,
    sample_reconstruction,
    sample_self_study,
)
from zrag_core.settings import JointSettings

_REBUILT = 0.5  # documents rebuilt per query of a batch, the costly part

Rebuilt = tuple[int, list[int], list[int]]
"""A document to rebuild: row, masked input ids, target ids."""


@dataclass(frozen=True, slots=True)
class JointBatch:
    """One micro-batch.

    Attributes:
        number: of the micro-batch, counted through the whole training.
        queries: what is asked.
        rows: the row that each of them reads; empty where no evidence is learned.
        rebuilt: documents to rebuild; empty where none are.
    """

    number: int
    queries: list[ReadExample]
    rows: list[int]
    rebuilt: list[Rebuilt]


def draw_batch(
    data: TrainingSet, backbone: Backbone, training: JointSettings, rng: random.Random, number: int
) -> JointBatch:
    """Draw the micro-batch of this number."""
    queries = _queries(data, backbone, training, rng, number)
    rows = rows_read(queries, len(data.documents), training.wrong_reads, rng) if training.evidence_weight > 0 else []
    n = max(1, round(_REBUILT * len(queries))) if training.reconstruction_weight > 0 else 0
    return JointBatch(number, queries, rows, [sample_reconstruction(data, backbone, training, rng) for _ in range(n)])


def questions_per_batch(training: JointSettings, data: TrainingSet) -> int:
    """How many of a micro-batch are training questions; the others are self-study queries."""
    if not data.examples or not data.study:
        return training.batch_size if data.examples else 0
    return training.batch_size - round(training.self_study * training.batch_size)


def _queries(
    data: TrainingSet, backbone: Backbone, training: JointSettings, rng: random.Random, number: int
) -> list[ReadExample]:
    """Self-study queries at random, and the next training questions of a pass in shuffled order.

    The order depends on the seed and the pass alone, so that a resumed run goes on with the right question.
    """
    asked = questions_per_batch(training, data)
    batch = [sample_self_study(data, backbone, training, rng) for _ in range(training.batch_size - asked)]
    n = len(data.examples)
    for position in range(number * asked, (number + 1) * asked):
        epoch, place = divmod(position, n)
        batch.append(data.examples[_shuffled(n, training.seed, epoch)[place]])
    if training.query_mask > 0:
        batch = [mask_query(example, backbone, training.query_mask, rng) for example in batch]
    return batch


@lru_cache(maxsize=4)
def _shuffled(n: int, seed: int, epoch: int) -> list[int]:
    return random.Random(f"{seed}:pass:{epoch}").sample(range(n), n)
