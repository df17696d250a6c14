"""Training a joint memory against the naive recipe: evidence tokens a second and largest memory, each in a process of
its own, on the same questions of one almanac."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from zrag_core.errors import ZragError
from zrag_core.settings import Settings
from zrag_pipeline.defs.benchmarks.measurement import Measurement
from zrag_pipeline.defs.benchmarks.training_process import NAIVE, ZRAG

_TRAINING = "zrag_pipeline.defs.benchmarks.training_process"


def measure_training(settings: Settings, log: Callable[[str], None]) -> Measurement:
    """Train with both recipes, one after the other.

    Raises:
        ZragError: a process failed, out of memory for example.
    """
    n = settings.benchmark.trained_documents
    found = {recipe: _trained_apart(recipe, settings) for recipe in (ZRAG, NAIVE)}
    rows = [(recipe, *figure) for recipe, own in found.items() for figure in _figures(own)]
    values = {(recipe, metric): value for recipe, metric, value, _ in rows}
    for metric in ("tokens_per_s", "peak_memory"):
        rows.append((ZRAG, f"{metric}_against_naive", values[ZRAG, metric] / values[NAIVE, metric], "times"))
    frame = pd.DataFrame(rows, columns=["system", "metric", "value", "unit"]).assign(n_documents=n)
    for system, metric, value, unit in rows:
        log(f"{system:<6} N={n:,} {metric:<26} {value:,.3f} {unit}")
    return Measurement(frame, frame, {f"training/{system}/{n}/{name}": value for system, name, value, _ in rows})


def _figures(own: dict[str, float]) -> Iterator[tuple[str, float, str]]:
    yield "tokens_per_s", own["questions"] * own["tokens"] / own["seconds"], "evidence tokens/s"
    yield "seconds_per_question", own["seconds"] / own["questions"], "s"
    yield "peak_memory", own["peak"], "GB"
    yield "peak_memory_before_training", own["before"], "GB"


def _trained_apart(recipe: str, settings: Settings) -> dict[str, Any]:
    own = settings.benchmark
    given = {
        "recipe": recipe,
        "documents": own.trained_documents,
        "questions": own.naive_questions,
        "seed": own.seeds[0],
        "settings": settings.model_dump(mode="json"),
    }
    ran = subprocess.run([sys.executable, "-m", _TRAINING], input=json.dumps(given), capture_output=True, text=True)
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        raise ZragError(f"training with the recipe '{recipe}' ended with {ran.returncode}: {last}")
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found
