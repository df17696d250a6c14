"""What tests of an engine share: recipes of workers that are killed or fail, which Ray's processes import."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zrag_core.errors import CorpusError


@dataclass(frozen=True)
class KilledOnce:
    """Another recipe's workers; the process that gets the shard of a number first is killed in the middle of it."""

    recipe: Any
    shard: Any
    trace: Path

    def open(self):
        worker = self.recipe.open()

        def work(shard):
            made = worker(shard)
            if shard == self.shard and not self.trace.exists():
                self.trace.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            return made

        return work


@dataclass(frozen=True)
class Doubling:
    """Workers that double numbers, and tell their process; the number `bad` is one that they cannot double."""

    bad: int | None = None

    def open(self):
        def work(number):
            if number == self.bad:
                raise CorpusError("no such number", where="numbers.jsonl:3", remedy="give another one")
            return 2 * number, os.getpid()

        return work
