"""Updates of a written memory on fresh almanacs: what they cost beside writing all afresh, and what they leave."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.almanac.names import Language
from zrag_core.corpus.samples import hash_order
from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, Document, Question
from zrag_core.evaluation.metrics.coverage import coverage_at
from zrag_core.model.checks.probe import held_out
from zrag_core.model.checks.update_checks import (
    UpdateProbe,
    deleted_text_absent,
    old_documents_delta,
    updated_leak_coverage,
)
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.inference.memory_system import MemorySystem
from zrag_core.model.store.checkpoint import Checkpoint, Origin, hash_rows, load_checkpoint, save_checkpoint
from zrag_core.model.store.skill_folder import load_skill
from zrag_core.model.store.update import update_memory
from zrag_core.model.store.write import write_documents
from zrag_core.settings import Settings
from zrag_pipeline.defs.benchmarks.measurement import (
    Figures,
    Measurement,
    figure_names,
    measure_almanacs,
    seed_rows,
    summary,
)
from zrag_pipeline.platform.handles import SkillReference

_REPETITIONS = 3
_BUDGET = 64


def measure_updates(settings: Settings, skill: SkillReference, log: Callable[[str], None]) -> Measurement:
    """Write, add to and remove from a memory of every almanac of `settings.benchmark`."""

    def measure(language: Language, n: int, seed: int) -> Figures:
        corpus = generate_almanac(n + settings.benchmark.updated, language, seed=seed)
        with tempfile.TemporaryDirectory(prefix="zrag-update-") as folder:
            yield from _Almanac(settings, skill, Path(folder), corpus, n).figures()

    frame = measure_almanacs(settings.benchmark, measure, log)
    short = summary(frame)
    metrics = dict(zip(figure_names(short), short["mean"], strict=True))
    return Measurement(seed_rows(frame), short, metrics, tables={"update_benchmark": frame})


class _Almanac:
    """One almanac, of which the first n documents are written, and the others added."""

    def __init__(self, settings: Settings, skill: SkillReference, folder: Path, corpus: Corpus, n: int):
        self.settings, self.skill, self.folder, self.corpus = settings, skill, folder, corpus
        self.targets = build_targets(corpus, settings.targets, 0)
        self.written, self.added = corpus.documents[:n], corpus.documents[n:]

    def figures(self) -> Figures:
        """(system, metric, value) of everything that is measured."""
        torch.set_num_threads(self.settings.backbone.cpu_threads)
        load_skill(self.skill.folder, device="cpu")  # what is imported on the way is no part of it
        times = [{**self._write(self.written), **self._update("written", "grown")} for _ in range(_REPETITIONS)]
        for name in times[0]:
            yield "memory", name, statistics.median(time[name] for time in times)
        yield "memory", "update_share", statistics.median(t["update_seconds"] / t["rewrite_seconds"] for t in times)

        grown = load_checkpoint(self.folder / "grown", device=self.settings.backbone.device)
        yield from self._coverage(grown)

        gone = set(hash_order((document.id for document in self.written), 0, "removed")[: len(self.added)])
        self._update("grown", "shrunk", without=gone)
        shrunk = load_checkpoint(self.folder / "shrunk", device=self.settings.backbone.device)
        before, after = (self._questions(checkpoint.documents) for checkpoint in (grown, shrunk))
        update = UpdateProbe(grown, shrunk, before, after, limit=self.settings.benchmark.questions)
        for function in (old_documents_delta, updated_leak_coverage, deleted_text_absent):
            for check in function(update):
                name = f"{check.check_name}_count" if check.check_name == "deleted_text_absent" else check.check_name
                yield "memory", name, check.value

    def _write(self, documents: Sequence[Document]) -> dict[str, float]:
        began = time.perf_counter()
        device = self.settings.backbone.device
        skill = load_skill(self.skill.folder, device=device)
        model = skill.model
        written = write_documents(model, documents, self.targets, self.settings.writing)
        model.remember(documents, written.z, written.spans)
        origin = Origin(skill.id, self.skill.digest, self.settings.writing, hash_rows(written.studied))
        checkpoint = Checkpoint("written", self.folder, model, tuple(documents), skill.settings, {}, origin)
        self._save(checkpoint, "written")
        return {"rewrite_seconds": time.perf_counter() - began}

    def _update(self, source: str, target: str, without: set[str] | None = None) -> dict[str, float]:
        """Load, update and save; all documents of the almanac, or all but some, are in memory afterwards."""
        documents = tuple(document for document in self.corpus.documents if document.id not in (without or ()))
        began = time.perf_counter()
        checkpoint = load_checkpoint(self.folder / source, device=self.settings.backbone.device)
        loaded = time.perf_counter()
        made = update_memory(checkpoint, documents, self.targets, self.settings.writing)
        self._save(replace(checkpoint, model=made.model, documents=documents, origin=made.origin), target)
        seconds = {"update_seconds": time.perf_counter() - began, "update_load_seconds": loaded - began}
        return {**seconds, "update_memory_seconds": made.seconds}

    def _save(self, checkpoint: Checkpoint, name: str) -> None:
        save_checkpoint(
            self.folder / name,
            checkpoint.model,
            checkpoint.documents,
            checkpoint.settings,
            checkpoint_id=name,
            metrics={},
            origin=checkpoint.origin,
        )

    def _coverage(self, grown: Checkpoint) -> Figures:
        """Coverage on test questions of added documents and of the others, and the difference."""
        groups = {
            "new": held_out(self._questions(self.added)),
            "old": held_out(self._questions(self.written))[: self.settings.benchmark.questions],
        }
        for name, questions in groups.items():
            yield "memory", f"{name}_questions_count", float(len(questions))
        if not all(groups.values()):
            return
        for system in ("zrag", "zrag_free"):
            reader = create_system(
                system,
                grown,
                self.settings.decoding,
                free=system == "zrag_free",
                threads=self.settings.backbone.cpu_threads,
            )
            covered = {name: _covered(reader, questions) for name, questions in groups.items()}
            for name, value in covered.items():
                yield system, f"{name}_coverage_at_{_BUDGET}", value
            yield system, "old_minus_new_coverage", covered["old"] - covered["new"]

    def _questions(self, documents: Sequence[Document]) -> list[Question]:
        ids = {document.id for document in documents}
        return [q for q in self.corpus.questions if q.document_ids and ids.issuperset(q.document_ids)]


def _covered(system: MemorySystem, questions: Sequence[Question]) -> float:
    pairs = zip(questions, system.retrieve(questions), strict=True)
    found = [coverage_at(question, retrieved, _BUDGET) for question, retrieved in pairs]
    return sum(map(bool, found)) / len(found)
