"""What people who ask depend on: that documents are found, and that verbatim evidence holds the answer."""

from __future__ import annotations

import torch

from zrag_core.evaluation.metrics.coverage import coverage_at
from zrag_core.model.checks.catalog import judged
from zrag_core.model.checks.check_spec import MemoryCheck
from zrag_core.model.checks.probe import Probe
from zrag_core.model.inference.create_system import create_system

BUDGET = 256
"""Evidence tokens, as many as `zrag ask` shows."""
QUESTIONS = 24
"""Most questions that are asked."""


def documents_found(probe: Probe) -> list[MemoryCheck]:
    """Share of held-out questions of which a gold document is among the first ten; beside it `answers_quoted`, the
    share whose answer stands in 256 tokens of verbatim evidence."""
    asked = [item.question for item in probe.asked[:QUESTIONS]]
    if not asked:
        return []
    checkpoint = probe.checkpoint
    system = create_system("zrag", checkpoint, checkpoint.settings.decoding, threads=torch.get_num_threads())
    found = list(zip(asked, system.retrieve(asked), strict=True))
    ranked = sum(bool(set(question.document_ids).intersection(item.document_ids[:10])) for question, item in found)
    quoted = sum(bool(coverage_at(question, item, BUDGET)) for question, item in found)
    return [
        judged("documents_found", ranked / len(found)),
        judged("answers_quoted", quoted / len(found)),
    ]
