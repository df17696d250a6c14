"""What a question, a memory and an index cost as the documents grow, every ratio in one run on the same data.

The documents are those of one almanac, repeated: their number is what counts here, and not what is found.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.types import Document, Question
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.inference.memory_system import MemorySystem
from zrag_core.model.store.checkpoint import Checkpoint, Origin, hash_rows, save_checkpoint
from zrag_core.model.store.skill_folder import load_skill
from zrag_core.model.store.write import write_documents
from zrag_core.settings import Settings
from zrag_pipeline.defs.benchmarks.measurement import Measurement
from zrag_pipeline.defs.benchmarks.scale_indexes import Search, searches
from zrag_pipeline.defs.benchmarks.scale_plots import scale_plots
from zrag_pipeline.platform.handles import SkillReference

DISTINCT = 1_000
"""Documents that are written; larger memories hold them repeatedly."""

_ASKED = 40
_TOGETHER = 32
_WARM_UP = 3
_ASKING = "zrag_pipeline.defs.benchmarks.asking_process"

Row = tuple[str, int, str, float, str]
"""system, documents, metric, value, unit"""


def measure_scale(settings: Settings, skill: SkillReference, log: Callable[[str], None]) -> Measurement:
    """Measure every number of documents in `benchmark.sizes`, and routing alone in `benchmark.routed_sizes`."""
    torch.set_num_threads(settings.backbone.cpu_threads)
    base = _written(settings, skill)
    rows: list[Row] = [("zrag", DISTINCT, "written_per_s", base.per_second, "documents/s")]
    with tempfile.TemporaryDirectory(prefix="zrag-scale-") as folder:
        for n in settings.benchmark.sizes:
            rows += _logged(base.figures(n, Path(folder) / str(n)), log)
            rows += _logged(_index_figures(base, n, settings), log)
        for n in settings.benchmark.routed_sizes:
            rows += _logged(base.routing(base.repeated(n)), log)
    frame = pd.DataFrame(rows, columns=["system", "n_documents", "metric", "value", "unit"])
    metrics = {f"{system}/{n}/{metric}": value for system, n, metric, value, _ in rows}
    shown = frame.pivot_table(index=["metric", "unit", "system"], columns="n_documents", values="value").reset_index()
    shown.columns = [str(column) for column in shown.columns]
    return Measurement(frame, shown, metrics, {"threads": torch.get_num_threads()}, plots=scale_plots(frame))


def _logged(rows: Iterator[Row], log: Callable[[str], None]) -> Iterator[Row]:
    for row in rows:
        system, n, metric, value, unit = row
        log(f"{system:<14} N={n:<9,} {metric:<28} {value:,.3f} {unit}")
        yield row


@dataclass(frozen=True)
class _Base:
    """An almanac and the memory of it.

    Attributes:
        per_second: documents written.
    """

    settings: Settings
    checkpoint: Checkpoint
    questions: Sequence[Question]
    per_second: float

    @property
    def model(self) -> SeparatedMemory:
        """The memory of `DISTINCT` documents."""
        return self.checkpoint.separated

    def repeated(self, n: int) -> Checkpoint:
        """The memory of n documents."""
        order = [number % DISTINCT for number in range(n)]
        model = self.model.with_same_theta()
        frequency = (self.model.held.frequency.double() * n / DISTINCT).round().int()
        model.hold({name: table.select(order) for name, table in self.model.held.tables.items()}, frequency)
        own = self.checkpoint.documents
        documents = tuple(replace(own[row], id=f"{own[row].id}-{number}") for number, row in enumerate(order))
        return replace(self.checkpoint, model=model, documents=documents)

    def routing(self, checkpoint: Checkpoint) -> Iterator[Row]:
        """What it takes to score all documents."""
        model, n = checkpoint.separated, len(checkpoint.documents)
        texts = [question.question for question in self.questions]
        ids = [model.backbone.encode(text) for text in texts]

        def route(chosen: slice) -> None:
            model.route(texts[chosen], ids[chosen])[0].topk(min(10, n))

        with torch.no_grad():
            yield from _times("zrag", n, "routing", route)
            vectors = model.query_vectors(ids)
            keys, scales = model.held.document_keys, model.router.log_scale.exp()

            def score(chosen: slice) -> None:
                keys.scores(texts[chosen], vectors[chosen], scales).topk(min(10, n))

            yield from _times("zrag", n, "scoring", score)

    def figures(self, n: int, folder: Path) -> Iterator[Row]:
        """What a memory of n documents costs: to route, to ask, to keep and to open."""
        checkpoint = self.repeated(n)
        yield from self.routing(checkpoint)
        for name in ("zrag", "zrag_free"):
            free = name == "zrag_free"
            threads = torch.get_num_threads()
            system = create_system(name, checkpoint, self.settings.decoding, free=free, threads=threads)

            def ask(chosen: slice, own: MemorySystem = system) -> None:
                own.retrieve(self.questions[chosen])

            yield from _times(name, n, "query", ask)
        yield "zrag", n, "bytes_per_document", checkpoint.model.bytes_per_document(), "bytes"
        text = sum(len(document.contents.encode()) for document in checkpoint.documents) / n
        yield "text", n, "bytes_per_document", text, "bytes"
        began = time.perf_counter()
        save_checkpoint(
            folder,
            checkpoint.model,
            checkpoint.documents,
            checkpoint.settings,
            checkpoint_id=f"repeated-{n}",
            metrics={},
            origin=replace(checkpoint.origin, studied=hash_rows(["00" * 32] * n)) if checkpoint.origin else None,
        )
        yield "zrag", n, "saving", time.perf_counter() - began, "s"
        del checkpoint
        for name, value, unit in _asked_apart(folder, self.questions, self.settings):
            yield "zrag", n, name, value, unit


def _written(settings: Settings, skill: SkillReference) -> _Base:
    corpus = generate_almanac(DISTINCT, "en", seed=settings.benchmark.seeds[0])
    loaded = load_skill(skill.folder, device=settings.backbone.device)
    began = time.perf_counter()
    written = write_documents(loaded.model, corpus.documents, (), settings.writing)
    loaded.model.remember(corpus.documents, written.z, written.spans)
    seconds = time.perf_counter() - began
    asked = [q for q in corpus.questions if q.split == "test" and q.question_type == "single"][:_ASKED]
    origin = Origin(loaded.id, skill.digest, settings.writing, hash_rows(written.studied))
    checkpoint = Checkpoint("scale", Path(), loaded.model, corpus.documents, loaded.settings, {}, origin)
    return _Base(settings, checkpoint, asked, DISTINCT / seconds)


def _times(system: str, n: int, what: str, run: Callable[[slice], object]) -> Iterator[Row]:
    """Milliseconds of one question (median and 95th percentile of `_ASKED`), and of each of 32 asked together."""
    for number in range(_WARM_UP):
        run(slice(number, number + 1))
    each = []
    for number in range(_ASKED):
        began = time.perf_counter()
        run(slice(number, number + 1))
        each.append(1000 * (time.perf_counter() - began))
    yield system, n, f"{what}_p50", statistics.median(each), "ms"
    yield system, n, f"{what}_p95", float(np.quantile(each, 0.95)), "ms"
    began = time.perf_counter()
    run(slice(0, _TOGETHER))
    yield system, n, f"{what}_of_{_TOGETHER}", 1000 * (time.perf_counter() - began) / _TOGETHER, "ms"


def _asked_apart(folder: Path, questions: Sequence[Question], settings: Settings) -> Iterator[tuple[str, float, str]]:
    """Open a memory in a process of its own and ask it: seconds, and the largest memory that this took."""
    given = {
        "folder": str(folder),
        "questions": [question.question for question in questions],
        "decoding": settings.decoding.model_dump(mode="json"),
        "threads": torch.get_num_threads(),
    }
    ran = subprocess.run(
        [sys.executable, "-m", _ASKING], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    yield "opening", found["opening"], "s"
    yield "first_query", found["first"], "s"
    yield "peak_memory", found["peak"], "GB"
    yield "peak_memory_without_documents", found["without"], "GB"


def _index_figures(base: _Base, n: int, settings: Settings) -> Iterator[Row]:
    own: Sequence[Document] = base.checkpoint.documents
    documents = [own[number % DISTINCT] for number in range(n)]
    texts = [question.question for question in base.questions]
    for search in searches(documents, settings):

        def score(chosen: slice, own: Search = search) -> None:
            own.run(texts[chosen])

        yield from _times(search.name, n, "scoring", score)
        yield search.name, n, "bytes_per_document", search.size / n, "bytes"
