"""The separated memory on fresh almanacs: seeds that nothing was chosen on, several sizes and languages.

One skill, its theta frozen, writes each almanac and answers its held-out questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from zrag_core.baselines.bm25 import Bm25Index, Bm25System
from zrag_core.corpus.almanac import generate_almanac
from zrag_core.corpus.almanac.names import Language
from zrag_core.corpus.samples import hash_order
from zrag_core.corpus.targets import build_targets
from zrag_core.corpus.types import Corpus, Question
from zrag_core.evaluation.metrics.coverage import coverage_at
from zrag_core.evaluation.metrics.retrieval import recall_all_at, recall_at
from zrag_core.evidence import EvidenceSystem, Retrieved
from zrag_core.model.checks.fixed_routing import z_shuffle_coverage
from zrag_core.model.checks.probe import Probe
from zrag_core.model.checks.reconstruction import document_top1
from zrag_core.model.inference.create_system import create_system
from zrag_core.model.store.checkpoint import Checkpoint
from zrag_core.model.store.skill_folder import load_skill
from zrag_core.model.store.write import Written, write_documents
from zrag_core.model.training.calibration import auroc
from zrag_core.settings import Settings
from zrag_pipeline.defs.benchmarks.measurement import (
    Figures,
    Measurement,
    figure_names,
    measure_almanacs,
    seed_rows,
    summary,
)


def measure_memory(settings: Settings, skill: Path, log: Callable[[str], None]) -> Measurement:
    """Write and question every almanac of `settings.benchmark`."""

    def measure(language: Language, n: int, seed: int) -> Figures:
        return _measure_one(settings, skill, generate_almanac(n, language, seed=seed))

    frame = measure_almanacs(settings.benchmark, measure, log)
    short = summary(frame)
    named = zip(figure_names(short), short.to_dict("records"), strict=True)
    metrics = {f"{name}/{end}": row[end] for name, row in named for end in ("mean", "lowest", "highest")}
    tables = {"memory_benchmark": frame, "memory_benchmark_summary": short}
    return Measurement(seed_rows(frame), short, metrics, tables=tables)


def _measure_one(settings: Settings, skill: Path, corpus: Corpus) -> Figures:
    torch.set_num_threads(settings.backbone.cpu_threads)
    model = load_skill(skill, device=settings.backbone.device).model
    targets = build_targets(corpus, settings.targets, 0)
    written = write_documents(model, corpus.documents, targets, settings.writing)
    model.remember(corpus.documents, written.z, written.spans)
    yield from _writing(corpus, written)
    checkpoint = Checkpoint("", Path(), model, corpus.documents, settings, {})
    probe = Probe(checkpoint, corpus.questions)
    for check in (*document_top1(probe), *z_shuffle_coverage(probe)):
        yield "memory", check.check_name, check.value
    asked = {kind: _sample(settings, corpus, kind) for kind in ("single", "two_hop")}
    unanswerable = _sample(settings, corpus, None)
    threads = settings.backbone.cpu_threads
    systems: list[EvidenceSystem] = [
        create_system("zrag", checkpoint, settings.decoding, threads=threads),
        create_system("zrag_free", checkpoint, settings.decoding, free=True, threads=threads),
        Bm25System(Bm25Index.build(corpus.documents, settings.baselines, unit="sentence"), corpus.documents),
    ]
    for system in systems:
        for kind, questions in asked.items():
            if not questions:
                continue
            found = system.retrieve(questions)
            for name, value in _quality(settings, questions, found):
                yield system.name, f"{kind}/{name}", value
            # Free decoding has the same confidence.
            if kind == "single" and system.name == "zrag" and unanswerable and found[0].confidence is not None:
                sure = [item.confidence or 0.0 for item in found]
                unsure = [item.confidence or 0.0 for item in system.retrieve(unanswerable)]
                yield system.name, "auroc", auroc(sure, unsure)


def _writing(corpus: Corpus, written: Written) -> Figures:
    yield "memory", "encoded_per_s", len(corpus.documents) / max(written.encode_seconds, 1e-9)
    yield "memory", "refine_seconds", written.refine_seconds
    yield "memory", "refine_steps_count", float(written.steps.float().mean())


def _sample(settings: Settings, corpus: Corpus, kind: str | None) -> list[Question]:
    """A fixed sample of the test questions of a type; of the unanswerable ones for None."""
    usable = {
        question.id: question
        for question in corpus.questions
        if (question.split == "unanswerable" if kind is None else question.split == "test")
        if kind is None or question.question_type == kind
    }
    return [usable[key] for key in hash_order(usable, 0, "memory benchmark")][: settings.benchmark.questions]


def _quality(
    settings: Settings, questions: Sequence[Question], found: Sequence[Retrieved]
) -> Iterator[tuple[str, float]]:
    pairs = list(zip(questions, found, strict=True))
    ranked = [(item.document_ids, question.document_ids) for question, item in pairs]
    yield "recall_at_1", _mean([recall_at(1, ids, gold) for ids, gold in ranked])
    yield "recall_all_at_10", _mean([recall_all_at(10, ids, gold) for ids, gold in ranked])
    for budget in settings.evaluation.budgets:
        yield f"coverage_at_{budget}", _mean([coverage_at(question, item, budget) for question, item in pairs])


def _mean(values: Sequence[float | None]) -> float:
    numbers = [float(value) for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else float("nan")
