"""Runs registered checks, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from zrag_core.model.checks.check_spec import MemoryCheck, MemoryCheckSpec


def run_checks(
    checks: Mapping[str, MemoryCheckSpec], probe: object, on_check: Callable[[str], None] | None = None
) -> tuple[MemoryCheck, ...]:
    """Figures of every check that the probe's memory and questions allow.

    Args:
        checks: a registry of the catalog.
        probe: a `Probe` for `MEMORY_CHECKS`, an `UpdateProbe` for `UPDATE_CHECKS`.
        on_check: called with one line when a check is done.
    """
    done: list[MemoryCheck] = []
    for number, check in enumerate(checks.values(), start=1):
        began = time.perf_counter()
        found = check.function()(probe)
        done += found
        if on_check:
            seconds = time.perf_counter() - began
            on_check(f"{number} of {len(checks)}  {_line(check.name, found)}  {seconds:.1f} s")
    return tuple(done)


def _line(name: str, found: Sequence[MemoryCheck]) -> str:
    if not found:
        return f"{name}: nothing to measure it on"
    parts = []
    for check in found:
        label = check.check_name if check.parameter is None else f"{check.parameter:g}:"
        verdict = "" if check.passed is None else (" (passed)" if check.passed else " (failed)")
        parts.append(f"{label} {check.value:.3f}{verdict}")
    heading = "" if found[0].check_name == name and found[0].parameter is None else f"{name}  "
    return heading + "  ".join(parts)
