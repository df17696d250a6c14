"""What tests of an engine share: recipes of workers that are killed or fail, which Ray's processes import."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zrag_core.errors import CorpusError


@dataclass(frozen=True)
class Killed:
    """Another recipe's workers; a process that works on one shard is killed there, the first `times` times."""

    recipe: Any
    shard: Any
    trace: Path
    times: int = 1

    def open(self):
        worker = self.recipe.open()

        def work(shard):
            made = worker(shard)
            if shard == self.shard:
                with self.trace.open("a+") as file:
                    file.seek(0)
                    if len(file.readlines()) >= self.times:
                        return made
                    file.write(f"{os.getpid()}\n")
                os.kill(os.getpid(), signal.SIGKILL)
            return made

        return work


@dataclass(frozen=True)
class Both:
    """Workers of two recipes in one process."""

    first: Any
    second: Any

    def open(self):
        first, second = self.first.open(), self.second.open()
        return lambda shard: (first(shard), second(shard))


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
