"""Ray as the engine: shards are the rows of a Ray Data pipeline, workers are the actors that map over it.

An actor makes its worker once (it loads the skill, or opens the checkpoint) and takes shard after shard. One that dies
is started again, and its shard is done again.

Shards and what is made of them travel pickled, as all does within a cluster of Ray: the bytes come from this process
and its own actors, never from a file or a document.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from zrag_core.errors import SettingsError, ZragError
from zrag_core.settings import EngineSettings
from zrag_core.sharding.engine import Engine, Item, Made, Recipe, Worker

INSTALL = "pip install 'zrag[ray]'"
_LOCAL = "with engine.name local the whole error is shown"
_MOST_TRIES = 4  # of a shard; one that kills every worker would be tried for ever
_STORE_BYTES = 256 * 1024**2  # of a cluster that is started here; what does not fit lies on disk
_TOLD = 300  # characters of an error
_NUMBER, _SHARD, _MADE = "number", "shard", "made"


class RayEngine(Engine):
    """Gives shards to actors of the cluster that this process is connected to.

    Args:
        workers: actors.
        threads: CPUs of each.
    """

    is_local = False

    def __init__(self, workers: int, threads: int):
        self.workers, self.threads = workers, threads

    def run(
        self,
        recipe: Recipe[Item, Made],
        shards: Sequence[Item],
        *,
        own: Worker[Item, Made] | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Made]:
        """See `Engine`; `own` has nothing to do here.

        Raises:
            ZragError: a worker raised it, or died again and again.
        """
        import ray
        from ray.data import ActorPoolStrategy, from_items

        rows = [{_NUMBER: number, _SHARD: pickle.dumps(shard)} for number, shard in enumerate(shards)]
        tries = ray.remote(num_cpus=0)(_Tries).remote()
        # A block for each shard: whoever is free takes the next one. Actors and their tasks are restarted by default.
        pipeline = from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            batch_size=1,
            compute=ActorPoolStrategy(size=min(self.workers, len(rows)), max_tasks_in_flight_per_actor=1),
            fn_constructor_args=(recipe, tries),
            num_cpus=self.threads,
        )
        made: dict[int, Made] = {}
        try:
            for row in pipeline.iter_rows():
                result = pickle.loads(row[_MADE])
                if isinstance(result, ZragError):
                    raise result
                made[int(row[_NUMBER])] = result
                if on_done:
                    on_done(len(made))
        except ray.exceptions.RayError as error:
            raise ZragError(f"Ray gave up ({type(error).__name__})", where="engine.name", remedy=_LOCAL) from error
        return [made[number] for number in range(len(rows))]


class _Tries:
    """Counts how often each shard was begun; it outlives the workers."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """Count one more, and return them all."""
        self._begun[number] += 1
        return self._begun[number]


class _Actor:
    """A worker where it works, opened when the first shard comes."""

    def __init__(self, recipe: Recipe[Any, Any], tries: Any):
        self._recipe, self._tries = recipe, tries

    @cached_property
    def _worker(self) -> Worker[Any, Any]:
        return self._recipe.open()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What the worker makes of the one shard of a batch, or the error that it raises; Ray would wrap that."""
        import ray

        try:
            if ray.get(self._tries.begin.remote(int(batch[_NUMBER][0]))) > _MOST_TRIES:
                raise ZragError(
                    f"shard {batch[_NUMBER][0]} has killed its worker {_MOST_TRIES} times",
                    where="engine.name",
                    remedy="give the workers more memory, or make shards smaller (engine.documents_per_shard)",
                )
            made = self._worker(pickle.loads(batch[_SHARD][0]))
        except ZragError as error:
            made = error
        except Exception as error:
            told = f"a worker failed ({type(error).__name__}: {' '.join(str(error).split())[:_TOLD]})"
            made = ZragError(told, where="engine.name", remedy=_LOCAL)
        return {_NUMBER: batch[_NUMBER], _MADE: [pickle.dumps(made)]}


@contextmanager
def ray_engine(settings: EngineSettings, threads: int) -> Iterator[RayEngine]:
    """The engine on the cluster of the settings, or on one that this process is connected to already.

    A cluster that is started here listens on loopback alone and is stopped at the end.

    Raises:
        SettingsError: Ray is not installed, or the cluster cannot be reached or has too few CPUs.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if settings.address is None:
        # Read when Ray is imported: without clusters it listens on loopback, as it always does on Windows and macOS.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise SettingsError("ray is not installed", where="engine.name", remedy=INSTALL) from error
    connected = ray.is_initialized()
    if not connected:
        _connect(settings, threads)
    try:
        _refuse_too_many(settings.workers, threads, int(ray.cluster_resources().get("CPU", 0)))
        _keep_quiet()
        yield RayEngine(settings.workers, threads)
    finally:
        if not connected:
            ray.shutdown()


def _connect(settings: EngineSettings, threads: int) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if settings.address is None:
        ray.init(
            address="local",
            num_cpus=settings.workers * threads,
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            **quiet,
        )
        return
    try:
        ray.init(address=settings.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"no Ray cluster answers at {settings.address} ({str(error).splitlines()[0]})",
            where="engine.address",
            remedy="start one (`ray start --head`), or leave the address out",
        ) from error


def _refuse_too_many(workers: int, threads: int, cpus: int) -> None:
    if workers * threads > cpus:
        raise SettingsError(
            f"{workers} workers of {threads} threads each need {workers * threads} CPUs, the cluster has {cpus}",
            where="engine.workers",
            remedy="lower it or backbone.threads, or add machines",
        )


def _keep_quiet() -> None:
    """No bars and no reports between the log's own lines."""
    from ray.data import DataContext

    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
