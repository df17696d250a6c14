"""The audit of evidence targets as numbers, Markdown and asset checks."""

from __future__ import annotations

from dataclasses import fields

import dagster as dg

from zrag_core.corpus.audit import Finding, TargetAudit
from zrag_pipeline.platform.markdown_text import markdown_text

_ENOUGH = 0.95


def audit_metrics(audit: TargetAudit) -> dict[str, float]:
    """Counts of every finding, shares covered per split, and length percentiles."""
    metrics: dict[str, float] = {name: float(finding.count) for name, finding in _findings(audit).items()}
    metrics |= {f"covered_{split}": shares["any"] for split, shares in audit.coverage.items()}
    metrics |= {f"target_tokens_{name}": value for name, value in audit.length_percentiles.items()}
    return {
        **metrics,
        "self_study_targets": float(audit.self_study_targets),
        "llm_targets": float(audit.llm_targets),
    }


def audit_markdown(audit: TargetAudit) -> str:
    """Tables for people: coverage by split and method, lengths, and what is doubtful with examples."""
    lines = ["| split | answerable questions | with a target | by method |", "|---|---|---|---|"]
    for split, n in audit.questions.items():
        shares = audit.coverage.get(split, {})
        methods = ", ".join(f"{method} {share:.1%}" for method, share in shares.items() if method != "any")
        lines.append(f"| {split} | {n:,} | {shares.get('any', 0):.1%} | {methods} |")
    lines += [
        "",
        f"{audit.unanswerable:,} unanswerable questions; {audit.self_study_targets:,} self-study targets; "
        f"{audit.llm_targets:,} questions written by an LLM.",
    ]
    if audit.length_percentiles:
        lengths = ", ".join(f"{name} {value:.0f}" for name, value in audit.length_percentiles.items())
        lines += ["", f"Target length in evidence tokens: {lengths}."]
    lines += ["", "| finding | cases | examples |", "|---|---|---|"]
    for name, finding in _findings(audit).items():
        examples = ", ".join(map(markdown_text, finding.examples))
        lines.append(f"| {name.replace('_', ' ')} | {finding.count:,} | {examples} |")
    return "\n".join(lines)


def audit_checks(audit: TargetAudit) -> list[dg.AssetCheckResult]:
    """The asset checks of `evidence_audit`; the blocking ones are about integrity, the others warn."""
    answerable = sum(audit.questions.values())
    questions = audit.questions.get("train", 0) * audit.coverage.get("train", {}).get("any", 0.0)
    trainable = audit.self_study_targets + audit.llm_targets + round(questions)
    with_target = 1 - audit.without_target.count / max(1, answerable)
    targets = max(1, answerable - audit.without_target.count)
    with_answer = 1 - audit.answer_not_in_evidence.count / targets
    return [
        dg.AssetCheckResult(
            check_name="no_leakage",
            passed=audit.leaks == 0,
            metadata={
                "leaked_questions": audit.leaked_questions.count,
                "leaked_evidence": audit.leaked_evidence.count,
                "leaked_facts": audit.leaked_facts.count,
            },
        ),
        dg.AssetCheckResult(check_name="training_targets", passed=trainable > 0, metadata={"targets": trainable}),
        dg.AssetCheckResult(
            check_name="questions_have_targets",
            passed=with_target >= _ENOUGH,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"share": with_target, "threshold": _ENOUGH},
        ),
        dg.AssetCheckResult(
            check_name="answers_in_evidence",
            passed=with_answer >= _ENOUGH,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"share": with_answer, "threshold": _ENOUGH},
        ),
    ]


def _findings(audit: TargetAudit) -> dict[str, Finding]:
    values = {field.name: getattr(audit, field.name) for field in fields(audit)}
    return {name: value for name, value in values.items() if isinstance(value, Finding)}
