"""Evidence: the text that the model should write for each query, and an audit of it."""

import dagster as dg

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.asset_helpers import PlatformParam, lineage_asset, link, table_metadata
from zrag_pipeline.platform.handles import CorpusHandle

GROUP = "evidence"


@lineage_asset(
    GROUP,
    "duckdb",
    "python",
    description="What the model should write: gold evidence, else the sentence that holds the answer, and "
    "self-study queries for every sentence (and questions written by an LLM, where configured). "
    "Table `evidence_targets`.",
)
def evidence_targets(
    context: dg.AssetExecutionContext,
    documents: CorpusHandle,
    questions: CorpusHandle,
    platform: PlatformParam,
):
    """Build and store the targets of the corpus."""
    import os

    import pandas as pd

    from zrag_core.corpus.targets import build_targets
    from zrag_pipeline.defs.evidence.llm_targets import llm_targets

    settings = platform.settings
    version = documents.corpus_version
    with platform.tracked(context, "targets", corpus_version=version) as run:
        corpus = platform.warehouse.load_corpus(version)
        targets = build_targets(corpus, settings.targets, settings.corpus.seed)
        if settings.targets.llm_questions_per_document:
            ledger = platform.ledger(context)
            written, summary = llm_targets(corpus, settings, os.environ, paths.answer_cache_file(), ledger)
            context.log.info(summary)
            targets.extend(written)
        platform.warehouse.save_targets(version, targets)
        frame = pd.DataFrame(
            [(t.id, t.query, t.evidence, t.document_ids, t.method, t.split) for t in targets],
            columns=["target_id", "query", "evidence", "document_ids", "method", "split"],
        )
        counts = frame.groupby(["method", "split"]).size()
        run.log_metrics({f"targets_{method}_{split}": int(n) for (method, split), n in counts.items()})
    return dg.MaterializeResult(
        value=questions,
        metadata={
            **table_metadata(frame),
            **{f"{method} ({split})": int(n) for (method, split), n in counts.items()},
            "corpus_version": version,
            **link(run),
        },
    )


@lineage_asset(
    GROUP,
    "python",
    description="How good the targets are: coverage by split, lengths, duplicates, leakage between splits.",
    check_specs=[
        dg.AssetCheckSpec(
            "no_leakage",
            asset="evidence_audit",
            blocking=True,
            description="No question and no evidence stands on both sides of the splits.",
        ),
        dg.AssetCheckSpec(
            "training_targets",
            asset="evidence_audit",
            blocking=True,
            description="There is something to train on.",
        ),
        dg.AssetCheckSpec(
            "questions_have_targets",
            asset="evidence_audit",
            description="At least 95% of the answerable questions have an evidence target (a warning below).",
        ),
        dg.AssetCheckSpec(
            "answers_in_evidence",
            asset="evidence_audit",
            description="At least 95% of the targets hold an answer of their question (a warning below).",
        ),
    ],
)
def evidence_audit(
    context: dg.AssetExecutionContext,
    evidence_targets: CorpusHandle,
    platform: PlatformParam,
):
    """Audit the targets; leakage blocks what comes after."""
    from zrag_core.corpus.audit import audit_targets
    from zrag_pipeline.defs.evidence.audit_report import audit_checks, audit_markdown, audit_metrics

    version = evidence_targets.corpus_version
    with platform.tracked(context, "targets", corpus_version=version) as run:
        audit = audit_targets(platform.warehouse.load_corpus(version), platform.warehouse.load_targets(version))
        metrics, markdown = audit_metrics(audit), audit_markdown(audit)
        run.log_metrics(metrics)
        run.log_text(markdown, "audit.md")
    return dg.MaterializeResult(
        metadata={"audit": dg.MetadataValue.md(markdown), **metrics, **link(run)},
        check_results=audit_checks(audit),
    )


ASSETS = [evidence_targets, evidence_audit]
