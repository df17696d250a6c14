"""What workers are worth: writing an almanac and asking its questions, by one process and by workers of Ray.

    python -m zrag_core.sharding.speedup --documents 4000 --workers 2 --out speedup.json

Both go through the same shards and open the model themselves. Starting a cluster on this machine is timed by itself.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.types import Corpus
from zrag_core.evidence import Retrieved
from zrag_core.model.store.checkpoint import save_checkpoint
from zrag_core.model.store.skill_folder import load_skill, shipped_skill
from zrag_core.settings import DecodingSettings, EngineSettings, WritingSettings
from zrag_core.sharding.corpus_writing import WritingRecipe, WrittenRows, document_shards, write_corpus
from zrag_core.sharding.engine import Engine, LocalEngine, open_engine
from zrag_core.sharding.question_reading import ReadingRecipe, ShardedSystem

T = TypeVar("T")

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
        one, figures["write_s_one"] = _timed(lambda: _write(LocalEngine(), corpus, settings, steps))
        _save(checkpoint, corpus, one)
        answers, figures["ask_s_one"] = _timed(lambda: _ask(LocalEngine(), corpus, settings, checkpoint))
        began = time.perf_counter()
        with open_engine(settings, _THREADS) as engine:
            figures["cluster_start_s"] = time.perf_counter() - began
            many, figures["write_s_workers"] = _timed(lambda: _write(engine, corpus, settings, steps))
            found, figures["ask_s_workers"] = _timed(lambda: _ask(engine, corpus, settings, checkpoint))
    figures["write_ratio"] = figures["write_s_one"] / figures["write_s_workers"]
    figures["ask_ratio"] = figures["ask_s_one"] / figures["ask_s_workers"]
    return figures | {"same_rows": _same(one, many), "same_evidence": found == answers}


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


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    made = work()
    return made, time.perf_counter() - began


def main() -> None:
    """Measure what the command line says, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m zrag_core.sharding.speedup", description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--questions", type=int, default=4000, help="at most")
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
