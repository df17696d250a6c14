"""Coverage with routing fixed: whose slots are read is given, so that reading alone is measured."""

from __future__ import annotations

from zrag_core.model.checks.catalog import judged
from zrag_core.model.checks.check_spec import MemoryCheck
from zrag_core.model.checks.probe import Probe


def oracle_routing_coverage(probe: Probe) -> list[MemoryCheck]:
    """Coverage where the (first) gold document is read, whatever routing says."""
    pairs = [(number, asked.gold[0]) for number, asked in enumerate(probe.asked)]
    return [judged("oracle_routing_coverage", probe.free_coverage(pairs))] if pairs else []


def z_shuffle_coverage(probe: Probe) -> list[MemoryCheck]:
    """Coverage where routing stays and another document's slots are read; beside it, `free_coverage` without that.

    Which document stands in for which is a fixed cyclic shift. Documents that say the answer themselves are stepped
    over: reading one of those would be knowledge in Z.
    """
    order = probe.rows_in_hash_order("shuffle")
    place = {row: position for position, row in enumerate(order)}
    true, shuffled = [], []
    for number, row in enumerate(probe.routed):
        other = probe.first_silent(number, (order[(place[row] + step) % len(order)] for step in range(1, len(order))))
        if other is not None:
            true.append((number, row))
            shuffled.append((number, other))
    if not true:
        return []
    return [
        MemoryCheck("free_coverage", None, probe.free_coverage(true)),
        judged("z_shuffle_coverage", probe.free_coverage(shuffled)),
    ]
