"""The registries of memory checks, in the order in which they run. Imports no torch.

A check is a function in its file and one entry here: asset checks, reports, plots and the champion's gate follow.
"""

from __future__ import annotations

from collections.abc import Mapping

from zrag_core.model.checks.check_spec import Figure, MemoryCheck, MemoryCheckSpec, Sweep, Threshold
from zrag_core.registry import Registry

MEMORY_CHECKS: Registry[MemoryCheckSpec] = Registry("memory check")
"""Of a checkpoint: functions of a `Probe`."""

UPDATE_CHECKS: Registry[MemoryCheckSpec] = Registry("update check")
"""Of a checkpoint beside the one that it was updated from: functions of an `UpdateProbe`."""


def checks_wanted(checks: Mapping[str, MemoryCheckSpec], which: str) -> dict[str, MemoryCheckSpec]:
    """All of some checks, or for "serving" those that tell how well people who ask are served."""
    return {name: check for name, check in checks.items() if which == "all" or check.serving}


def judged_figures(checks: Mapping[str, MemoryCheckSpec]) -> dict[str, Figure]:
    """The figures of some checks that have a threshold, by name."""
    figures = [figure for check in checks.values() for figure in check.figures]
    return {figure.name: figure for figure in figures if figure.threshold is not None}


def threshold_of(name: str) -> Threshold | None:
    """The threshold of a figure; None where it only describes."""
    figure = (judged_figures(MEMORY_CHECKS) | judged_figures(UPDATE_CHECKS)).get(name)
    return figure.threshold if figure else None


def judged(name: str, value: float, reference: float = 0.0) -> MemoryCheck:
    """A measured figure, held against its threshold above `reference`."""
    threshold = threshold_of(name)
    assert threshold is not None, name
    return MemoryCheck(name, None, value, reference + threshold.value, threshold.passes(value, reference))


def _register(
    registry: Registry[MemoryCheckSpec],
    name: str,
    file: str,
    *figures: Figure,
    sweep: Sweep | None = None,
    serving: bool = False,
) -> None:
    registry.add(MemoryCheckSpec(name, f"zrag_core.model.checks.{file}", figures, sweep, serving))


_register(
    MEMORY_CHECKS,
    "documents_found",
    "serving",
    Figure(
        "documents_found",
        "Held-out questions lead to their document.",
        Threshold(0.9, True, "of the ten documents that are ranked, one has to be the right one"),
    ),
    Figure(
        "answers_quoted",
        "Verbatim evidence of 256 tokens holds the answer.",
        Threshold(0.6, True, "what `zrag ask` shows has to hold the answer to most questions"),
    ),
    serving=True,
)
_register(
    MEMORY_CHECKS,
    "document_top1",
    "reconstruction",
    Figure(
        "document_top1",
        "Documents are explained best by their own slots.",
        Threshold(0.99, True, "other slots should never explain a text better than its own", gates=False),
    ),
)
_register(
    MEMORY_CHECKS,
    "projection_random_top1",
    "reconstruction",
    Figure(
        "projection_random_top1",
        "With random projection weights nothing is left of document_top1.",
        Threshold(0.2, False, "chance is 1 in 48; more means that the slots are not what is read", gates=False),
    ),
)
_register(
    MEMORY_CHECKS,
    "reconstruction_rouge_l",
    "reconstruction",
    Figure(
        "reconstruction_rouge_l",
        "Documents can be rebuilt from their slots alone.",
        Threshold(0.6, True, "most of a text, in its order, has to come from its slots alone", gates=False),
    ),
)
_register(
    MEMORY_CHECKS,
    "oracle_routing_coverage",
    "fixed_routing",
    Figure(
        "oracle_routing_coverage",
        "With the gold document routed, its slots give the answer.",
        Threshold(0.85, True, "the target of free evidence; routing cannot be the excuse here", gates=False),
        bar="gold document",
    ),
)
_register(
    MEMORY_CHECKS,
    "z_shuffle_coverage",
    "fixed_routing",
    Figure("free_coverage", "Free evidence of the routed document gives the answer.", bar="routed document"),
    Figure(
        "z_shuffle_coverage",
        "With another document's slots read, routing kept, answers are gone: the facts are in Z.",
        Threshold(0.10, False, "about 0.05 is guessed right; more means that theta holds the facts", gates=False),
        bar="routed, but another\ndocument's slots read",
    ),
)
_register(
    MEMORY_CHECKS, "alpha_sweep", "sweeps", sweep=Sweep("Coverage by the gate on the slots", "alpha (1: as trained)")
)
_register(
    MEMORY_CHECKS,
    "coverage_by_documents",
    "sweeps",
    sweep=Sweep("Coverage by size of the memory", "documents", logarithmic=True),
)
_register(
    MEMORY_CHECKS,
    "coverage_by_slots",
    "sweeps",
    sweep=Sweep("Coverage by slots, encoder alone", "slots per document", logarithmic=True),
)
_register(
    MEMORY_CHECKS,
    "deleted_leak_coverage",
    "deletion",
    Figure(
        "deleted_leak_coverage",
        "Facts of deleted documents are told no more often than guessing does.",
        Threshold(0.05, False, "above the guessing floor: sampling noise, but no deleted facts", "guessing"),
        bar="best one left when the\ndocument is deleted",
    ),
    Figure("deleted_floor_coverage", "Guessing covers the answer.", bar="guessing floor\nof that"),
)

_register(
    UPDATE_CHECKS,
    "old_documents_delta",
    "update_checks",
    Figure(
        "old_documents_delta",
        "Untouched documents, routed to as before, are told as before, question by question.",
        Threshold(0.0, True, "rows that were not written are the same, and so is what is read"),
    ),
    Figure(
        "old_documents_delta_constrained",
        "The same of the sentences that are chosen, where nothing competes.",
        Threshold(0.0, True, "the same, of the sentences that are chosen"),
    ),
)
_register(
    UPDATE_CHECKS,
    "updated_leak_coverage",
    "update_checks",
    Figure(
        "updated_leak_coverage",
        "Removed documents' questions are answered no more often than guessing does.",
        Threshold(0.02, False, "above what is guessed; what is gone is not told at all", "guessing"),
    ),
)
_register(
    UPDATE_CHECKS,
    "deleted_text_absent",
    "update_checks",
    Figure(
        "deleted_text_absent",
        "No removed text, key, slot or hash stands in any file of the new checkpoint.",
        Threshold(0.0, False, "finds of removed text, slots, keys or hashes in the new files"),
    ),
    serving=True,
)
# New documents that are read worse than the old ones harm nobody who asks; kept back, they are not read at all.
_register(
    UPDATE_CHECKS,
    "new_documents_coverage",
    "update_checks",
    Figure(
        "new_documents_coverage",
        "Added documents are told as well as the old ones.",
        Threshold(-0.03, True, "new ones are told as old ones are; few questions may fail by chance", "old", False),
    ),
    Figure(
        "new_documents_coverage_constrained",
        "The same of the sentences that are chosen.",
        Threshold(-0.03, True, "the same, of the sentences that are chosen", "old", False),
    ),
)
_register(UPDATE_CHECKS, "drift", "update_checks")
