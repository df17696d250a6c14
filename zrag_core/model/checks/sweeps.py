"""Coverage of free evidence over a parameter: the gate on the slots, documents in memory, slots a document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zrag_core.model.architecture.network import MemoryModel
from zrag_core.model.architecture.separated_memory import SeparatedMemory
from zrag_core.model.architecture.spans import sentence_ids
from zrag_core.model.checks.check_spec import MemoryCheck
from zrag_core.model.checks.probe import Probe
from zrag_core.model.store.write import encode_documents
from zrag_core.settings import WritingSettings

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
SHARES = (0.25, 0.5, 1.0)


def alpha_sweep(probe: Probe) -> list[MemoryCheck]:
    """Coverage with what the LLM sees of the slots scaled by alpha; routing does not depend on it."""
    pairs = list(enumerate(probe.routed))
    if not pairs:
        return []
    checks = []
    for alpha in ALPHAS:
        with _scaled(probe.model, alpha):
            checks.append(MemoryCheck("alpha_sweep", alpha, probe.free_coverage(pairs)))
    return checks


def coverage_by_documents(probe: Probe) -> list[MemoryCheck]:
    """Coverage in memories that hold a quarter, half and all of the documents, each within the next.

    The same questions are asked every time: those whose gold documents are in the smallest memory.
    """
    gold = {row for asked in probe.asked for row in asked.gold}
    order = sorted(probe.rows_in_hash_order("documents"), key=lambda row: row not in gold)
    smallest = set(order[: _part(len(order), SHARES[0])])
    numbers = [number for number, asked in enumerate(probe.asked) if smallest.issuperset(asked.gold)]
    if not numbers:
        return []
    checks = []
    for n in sorted({_part(len(order), share) for share in SHARES}):
        kept = sorted(order[:n])
        best = probe.scores(numbers, kept).argmax(1).tolist()
        pairs = [(number, kept[column]) for number, column in zip(numbers, best, strict=True)]
        checks.append(MemoryCheck("coverage_by_documents", n, probe.free_coverage(pairs)))
    return checks


def coverage_by_slots(probe: Probe) -> list[MemoryCheck]:
    """Coverage where documents are encoded anew into fewer slots (policy `separated`); routing stays.

    All points, the one with all slots too, are of the encoder alone: a document refined in one number of slots
    cannot be compared with one that is not in another.
    """
    model = probe.model
    if not isinstance(model, SeparatedMemory) or not model.fits_fewer_slots or not probe.asked:
        return []
    rows = list(dict.fromkeys(probe.routed))
    written = WritingSettings(batch_size=probe.batch_size)
    documents = [sentence_ids(model.backbone, probe.documents[row].text) for row in rows]
    places = [rows.index(row) for row in probe.routed]
    numbers = range(len(probe.asked))
    checks = []
    slots = model.settings.slots
    while slots >= 1:
        z, spans, _ = encode_documents(model, documents, written, slots=slots)
        texts = probe.read(numbers, z[places], spans[places])
        checks.append(MemoryCheck("coverage_by_slots", slots, probe.coverage(numbers, texts)))
        slots //= 2
    return checks[::-1]


def _part(n: int, share: float) -> int:
    return max(1, round(n * share))


@contextmanager
def _scaled(model: MemoryModel, alpha: float) -> Iterator[None]:
    before = model.alpha
    model.alpha = alpha
    try:
        yield
    finally:
        model.alpha = before
