"""What workers are worth: writing an almanac and asking its questions, by one process and by workers of Ray.

    python zrag_pipeline/defs/benchmarks/sharding_speedup.py --documents 5000 --workers 2 --out speedup.json

Both go through the same shards and open the model themselves, and starting a cluster on this machine is timed by
itself. The steady ratio is that of the pace from the first finished shard to the last one: what is left of the ratio
when there is so much to do that opening models no longer counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.types import Corpus
from zrag_core.evidence import Retrieved
from zrag_core.model.store.checkpoint import save_checkpoint
from zrag_core.model.store.skill_folder import load_skill, shipped_skill
from zrag_core.settings import DecodingSettings, EngineSettings, WritingSettings
from zrag_core.sharding.corpus_writing import WritingRecipe, WrittenRows, document_shards, write_corpus
from zrag_core.sharding.engine import Engine, Item, LocalEngine, Made, Recipe, Worker
from zrag_core.sharding.engine_choice import open_engine
from zrag_core.sharding.question_reading import ReadingRecipe, ShardedSystem

_SEED = 311
_DEVICE, _THREADS = "cpu", 1


def measure(corpus: Corpus, settings: EngineSettings, steps: int) -> dict[str, Any]:
    """Seconds and their ratios, and whether both made the same.

    Args:
        settings: of Ray.
        steps: gradient steps of writing.
    """
    figures: dict[str, Any] = {
        "documents": len(corpus.documents),
        "questions": len(corpus.questions),
        "workers": settings.workers,
        "writing_steps": steps,
        "documents_per_shard": settings.documents_per_shard,
        "questions_per_shard": settings.questions_per_shard,
    }
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "memory"
        local = _Clock(LocalEngine())
        one = _write(local, corpus, settings, steps)
        _save(checkpoint, corpus, one)
        answers = _ask(local, corpus, settings, checkpoint)
        began = time.perf_counter()
        with open_engine(settings, _THREADS) as engine:
            figures["cluster_start_s"] = time.perf_counter() - began
            workers = _Clock(engine)
            many = _write(workers, corpus, settings, steps)
            found = _ask(workers, corpus, settings, checkpoint)
    for what, alone, together in zip(("write", "ask"), local.runs, workers.runs, strict=True):
        figures |= {
            f"{what}_s_one": alone.seconds,
            f"{what}_s_workers": together.seconds,
            f"{what}_ratio": alone.seconds / together.seconds,
            f"{what}_steady_ratio": alone.seconds_per_shard / together.seconds_per_shard,
        }
    return figures | {"same_rows": _same(one, many), "same_evidence": found == answers}


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run took; the pace is that behind the first finished shard."""

    seconds: float
    seconds_per_shard: float


class _Clock(Engine):
    """Times the runs of another engine."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self.runs: list[_Run] = []

    def run(
        self,
        recipe: Recipe[Item, Made],
        shards: Sequence[Item],
        *,
        own: Worker[Item, Made] | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Made]:
        """See `Engine`."""
        moments = [time.perf_counter()]
        made = self._engine.run(recipe, shards, own=own, on_done=lambda _: moments.append(time.perf_counter()))
        seconds = time.perf_counter() - moments[0]
        self.runs.append(_Run(seconds, (moments[-1] - moments[1]) / max(1, len(shards) - 1)))
        return made


def _write(engine: Engine, corpus: Corpus, settings: EngineSettings, steps: int) -> WrittenRows:
    recipe = WritingRecipe(shipped_skill(), _DEVICE, _THREADS, WritingSettings(steps=steps))
    return write_corpus(engine, recipe, document_shards(corpus.documents, (), settings.documents_per_shard))


def _ask(engine: Engine, corpus: Corpus, settings: EngineSettings, checkpoint: Path) -> Sequence[Retrieved]:
    recipe = ReadingRecipe("zrag", checkpoint, _DEVICE, DecodingSettings(), False, _THREADS)
    found = ShardedSystem(recipe, engine, settings.questions_per_shard).retrieve(corpus.questions)
    return [replace(item, latency_ms=0.0) for item in found]


def _save(folder: Path, corpus: Corpus, rows: WrittenRows) -> None:
    skill = load_skill(shipped_skill(), device=_DEVICE)
    skill.model.hold(rows.tables, rows.frequency)
    save_checkpoint(folder, skill.model, corpus.documents, skill.settings, checkpoint_id=folder.name, metrics={})


def _same(one: WrittenRows, many: WrittenRows) -> bool:
    first, second = (
        {key: value for name, table in rows.tables.items() for key, value in table.stored(name).items()}
        for rows in (one, many)
    )
    return torch.equal(one.frequency, many.frequency) and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def main() -> None:
    """Measure what the command line says, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--questions", type=int, default=20_000, help="at most")
    parser.add_argument("--steps", type=int, default=0, help="gradient steps of writing")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--address", help="of a running cluster; left out: one is started on this machine")
    parser.add_argument("--shard", type=int, default=128, help="documents or questions of a shard")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    given = parser.parse_args()
    torch.set_num_threads(_THREADS)
    corpus = generate_almanac(given.documents, "en", seed=_SEED)
    corpus = replace(corpus, questions=corpus.questions[: given.questions])
    shards = {"documents_per_shard": given.shard, "questions_per_shard": given.shard}
    settings = EngineSettings(name="ray", workers=given.workers, address=given.address, **shards)
    figures = measure(corpus, settings, given.steps)
    text = json.dumps(figures, indent=2)
    given.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
