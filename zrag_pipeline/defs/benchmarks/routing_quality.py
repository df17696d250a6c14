"""Routing on held-out questions: the memory's router, untrained and trained, beside BM25."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pandas as pd

from zrag_core.baselines.bm25 import Bm25Index, Bm25System
from zrag_core.corpus.samples import evaluated_questions
from zrag_core.corpus.types import Document, Question
from zrag_core.evaluation.bootstrap import bootstrap_interval
from zrag_core.evaluation.metrics.retrieval import recall_at, reciprocal_rank
from zrag_core.model.architecture.create_backbone import create_backbone
from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.inference.routing import route
from zrag_core.model.training.joint_training import initialise, train_joint
from zrag_core.model.training.progress import TrainingHooks
from zrag_core.settings import EvaluationSettings, Settings
from zrag_pipeline.defs.benchmarks.measurement import Measurement
from zrag_pipeline.defs.memory.joint_job import tokenizer_texts
from zrag_pipeline.platform.warehouse import Warehouse

_BATCH = 64
_DEPTH = 10


def measure_routing(
    settings: Settings, warehouse: Warehouse, corpus_version: str, log: Callable[[str], None]
) -> Measurement:
    """Train the router on training questions and self-study queries, and measure recall."""
    corpus = warehouse.load_corpus(corpus_version)
    targets = warehouse.load_targets(corpus_version)
    questions = [q for q in evaluated_questions(corpus, settings.evaluation) if q.document_ids]
    alone = settings.model_copy(
        update={"joint": settings.joint.model_copy(update={"evidence_weight": 0, "reconstruction_weight": 0})}
    )
    numbers = settings.joint.slots * settings.joint.width
    bm25 = Bm25System(Bm25Index.build(corpus.documents, settings.baselines), corpus.documents)
    backbone = create_backbone(settings.backbone, tokenizer_texts(corpus.documents, targets), seed=settings.joint.seed)
    untrained = initialise(backbone, settings.joint, corpus.documents, seed=settings.joint.seed).eval()
    ranked = {
        "bm25": [item.document_ids for item in bm25.retrieve(questions)],
        "router_untrained": rank(untrained, corpus.documents, questions),
    }
    hooks = TrainingHooks(on_progress=lambda made: log(made.line()), progress_times=20)
    trained = train_joint(corpus.documents, targets, backbone, alone, hooks)
    ranked["router_trained"] = rank(trained.model, corpus.documents, questions)
    frame = pd.DataFrame(
        {
            "system": system,
            "numbers_per_document": None if system == "bm25" else numbers,
            "n_documents": len(corpus.documents),
            "n_questions": len(questions),
            **row,
        }
        for system, lists in ranked.items()
        for row in _quality(questions, lists, settings.evaluation)
    )
    metrics = {f"{row['system']}/{row['metric']}": row["value"] for row in frame.to_dict("records")}
    rows_of_version = _warehouse_rows(frame).assign(corpus_version=corpus_version)
    return Measurement(rows_of_version, frame, metrics, tables={"routing": frame})


def _warehouse_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The table `benchmarks`: one row for each figure, intervals as metrics of their own."""
    parts = [
        frame.assign(metric=frame["metric"] + suffix, value=frame[column])
        for column, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
    ]
    extra = frame.drop_duplicates("system").dropna(subset="numbers_per_document")
    parts.append(extra.assign(metric="numbers_per_document", value=extra["numbers_per_document"]))
    rows = pd.concat(parts)[["system", "n_documents", "metric", "value"]]
    unit = rows["metric"].eq("numbers_per_document").map({True: "numbers", False: "share"})
    return rows.assign(unit=unit)


def rank(model: MemoryModel, documents: Sequence[Document], questions: Sequence[Question]) -> list[tuple[str, ...]]:
    """Ten best documents for each question, by routing alone."""
    ranked: list[tuple[str, ...]] = []
    for start in range(0, len(questions), _BATCH):
        texts = [question.question for question in questions[start : start + _BATCH]]
        queries = [model.backbone.encode(text) for text in texts]
        for row in route(model, texts, queries, _DEPTH).rows.tolist():
            ranked.append(tuple(documents[i].id for i in row))
    return ranked


def _quality(
    questions: Sequence[Question], ranked: Sequence[Sequence[str]], settings: EvaluationSettings
) -> Iterator[dict[str, object]]:
    """Every measure (metric, value, low, high) of ranked document ids."""
    pairs = list(zip(ranked, questions, strict=True))
    measures = {f"recall_at_{k}": [recall_at(k, ids, q.document_ids) for ids, q in pairs] for k in (1, 5, 10)}
    measures["mrr"] = [reciprocal_rank(ids, q.document_ids) for ids, q in pairs]
    clusters = [question.document_ids[0] for question in questions]
    for metric, values in measures.items():
        known = [float(value) for value in values if value is not None]
        low, high = bootstrap_interval(
            known,
            clusters,
            samples=settings.bootstrap_samples,
            confidence=settings.confidence,
            seed=settings.seed,
        )
        yield {"metric": metric, "value": sum(known) / len(known), "low": low, "high": high}
