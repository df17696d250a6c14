"""What a memory check reports, and the thresholds that it is held against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Threshold:
    """The value that a check has to reach, or must not exceed, and why."""

    value: float
    at_least: bool
    reason: str

    def passes(self, value: float) -> bool:
        """Whether `value` is on the right side; the threshold itself is."""
        return value >= self.value if self.at_least else value <= self.value


THRESHOLDS = {
    "document_top1": Threshold(0.99, True, "other slots should never explain a text better than its own"),
    "reconstruction_rouge_l": Threshold(0.6, True, "most of a text, in its order, has to come from its slots alone"),
    "projection_random_top1": Threshold(
        0.2, False, "chance is 1 in 48; more means that the slots are not what is read"
    ),
    "z_shuffle_coverage": Threshold(0.10, False, "about 0.05 is guessed right; more means that theta holds the facts"),
    "oracle_routing_coverage": Threshold(0.85, True, "the target of free evidence; routing cannot be the excuse here"),
    "deleted_leak_coverage": Threshold(0.05, False, "above the guessing floor: sampling noise, but no deleted facts"),
}
"""`deleted_leak_coverage` is compared with its guessing floor plus this; the others with the value itself."""

UPDATE_THRESHOLDS = {
    "old_documents_delta": Threshold(0.0, True, "rows that were not written are the same, and so is what is read"),
    "old_documents_delta_constrained": Threshold(0.0, True, "the same, of the sentences that are chosen"),
    "updated_leak_coverage": Threshold(0.02, False, "above what is guessed; what is gone is not told at all"),
    "deleted_text_absent": Threshold(0.0, False, "finds of removed text, slots, keys or hashes in the new files"),
    "new_documents_coverage": Threshold(
        -0.03, True, "new ones are told as old ones are; few questions may fail by chance"
    ),
    "new_documents_coverage_constrained": Threshold(-0.03, True, "the same, of the sentences that are chosen"),
}
"""Of an update. The deltas have to be this exactly; leak and coverage are compared with their counterpart (guessing
floor, old documents) plus this, however few the questions are; coverage from 30 questions of both."""


@dataclass(frozen=True, slots=True)
class MemoryCheck:
    """One figure, a row of the table `memory_checks`.

    Attributes:
        parameter: of a sweep: alpha, number of documents or of slots.
        threshold, passed: None where the figure only describes.
    """

    check_name: str
    parameter: float | None
    value: float
    threshold: float | None = None
    passed: bool | None = None


def judged(name: str, value: float) -> MemoryCheck:
    """The figure of a check with a threshold of its own."""
    threshold = THRESHOLDS[name]
    return MemoryCheck(name, None, value, threshold.value, threshold.passes(value))
