"""One evaluation's evidence: every configured system is made, asked the same questions, and its rows are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pandas as pd

from zrag_core.corpus.samples import evaluated_questions
from zrag_core.corpus.types import Corpus, Question
from zrag_core.errors import CorpusError
from zrag_core.memorag.memorag_system import MemoragSystem
from zrag_core.settings import EvaluationSettings
from zrag_core.sharding.engine_choice import open_engine
from zrag_core.sharding.question_reading import make_sharded
from zrag_pipeline.defs.evaluation.memorag import store_traces
from zrag_pipeline.defs.evaluation.scores import evidence_rows
from zrag_pipeline.defs.evaluation.systems import Artefacts, system_inputs, system_params
from zrag_pipeline.platform.asset_helpers import Platform
from zrag_pipeline.platform.handles import CorpusHandle, EvidenceHandle
from zrag_pipeline.platform.tracking import TrackedRun
from zrag_pipeline.platform.warehouse import Warehouse


@dataclass(frozen=True)
class EvidenceRun:
    """What was stored.

    Attributes:
        sample: a row of each system.
        metadata: figures for the asset's page.
        complete: whether every system has a row for every question and budget.
    """

    handle: EvidenceHandle
    sample: pd.DataFrame
    n_rows: int
    metadata: dict[str, Any]
    complete: dg.AssetCheckResult


def collect_evidence(
    platform: Platform,
    targets: CorpusHandle,
    artefacts: Artefacts,
    run: TrackedRun,
    context: dg.AssetExecutionContext,
) -> EvidenceRun:
    """Ask every configured system the evaluated questions, and fill the table `evidence`.

    Raises:
        CorpusError: there is no question to ask.
        CheckpointError: an artefact that a system reads is missing, or belongs to another corpus.
    """
    settings, warehouse, run_id = platform.settings, platform.warehouse, context.run.run_id
    version = targets.corpus_version
    corpus = warehouse.load_corpus(version)
    questions = _questions(corpus, settings.evaluation)
    inputs = system_inputs(settings, corpus, warehouse.load_targets(version), artefacts, platform.ledger(context))
    names = settings.evaluation.systems
    speed: dict[str, float] = {}
    extra: dict[str, Any] = {}
    with open_engine(settings.engine, settings.backbone.cpu_threads) as engine:
        for number, name in enumerate(names, 1):
            policy = inputs.spec(name).policy
            constants = {
                "run_id": run_id,
                "corpus_version": version,
                "checkpoint_id": artefacts.memories[policy].checkpoint_id if policy else None,
            }
            system = make_sharded(inputs, name, engine, _progress(name, context.log.info))
            rows, seconds = evidence_rows(system, questions, settings.evaluation.budgets, **constants)
            warehouse.replace_rows("evidence", rows, {"run_id": run_id, "system": name})
            if isinstance(system, MemoragSystem):
                figures, extra = store_traces(warehouse, system, questions, run_id=run_id, version=version)
                run.log_metrics(figures)
            del system  # before the next one is made
            speed[name] = len(questions) / max(seconds, 1e-9)
            took = f"{len(questions):,} questions in {seconds:.1f} s ({speed[name]:,.0f} per second)"
            context.log.info(f"{number} of {len(names)}  {name}: {took}")
    run.log_metrics({f"questions_per_s_{name}": value for name, value in speed.items()})
    counts, sample = _stored(warehouse, run_id, min(settings.evaluation.budgets))
    handle = EvidenceHandle(
        version,
        targets.questions_version,
        run_id,
        artefacts.checkpoint_ids,
        system_params(settings, artefacts),
    )
    metadata = {
        "questions": len(questions),
        "questions_per_second": dg.MetadataValue.md("\n".join(f"- {name}: {n:,.1f}" for name, n in speed.items())),
        "rows": dg.MetadataValue.md(counts.to_string(index=False).join(["```\n", "\n```"])),
        **extra,
        **{f"checkpoint_{policy}": identifier or "none" for policy, identifier in artefacts.checkpoint_ids.items()},
    }
    complete = _completeness(counts, settings.evaluation, len(questions))
    return EvidenceRun(handle, sample, int(counts["questions"].sum()), metadata, complete)


def _progress(name: str, log: Callable[[str], None]) -> Callable[[int, int], None]:
    """Says how far a system is that is asked in several shards."""

    def on_done(asked: int, total: int) -> None:
        if asked < total:
            log(f"{name}: {asked:,} of {total:,} questions")

    return on_done


def _questions(corpus: Corpus, settings: EvaluationSettings) -> list[Question]:
    questions = evaluated_questions(corpus, settings)
    if not questions:
        raise CorpusError(
            f"the corpus has no question of the types {', '.join(settings.question_types)} in the splits "
            f"{', '.join(settings.splits)}",
            where="evaluation.splits",
            remedy="evaluate another split or type, raise corpus.limit_documents, or raise corpus.splits.test",
        )
    return questions


def _stored(warehouse: Warehouse, run_id: str, budget: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How many questions each system and budget has, and a row of each system."""
    counts = warehouse.query(
        "SELECT system, budget, count(*) AS questions FROM evidence WHERE run_id = ? GROUP BY ALL ORDER BY ALL",
        [run_id],
    )
    sample = warehouse.query(
        "SELECT system, question_id, evidence, document_ids, latency_ms FROM evidence "
        "WHERE run_id = ? AND budget = ? QUALIFY row_number() OVER (PARTITION BY system ORDER BY question_id) = 1",
        [run_id, budget],
    )
    return counts, sample


def _completeness(counts: pd.DataFrame, settings: EvaluationSettings, n_questions: int) -> dg.AssetCheckResult:
    n_systems, n_budgets = len(settings.systems), len(settings.budgets)
    return dg.AssetCheckResult(
        check_name="complete",
        passed=len(counts) == n_systems * n_budgets and bool((counts["questions"] == n_questions).all()),
        metadata={"systems": n_systems, "budgets": n_budgets, "questions": n_questions},
    )
