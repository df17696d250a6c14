"""Ray as the engine: shards are the rows of a Ray Data pipeline, workers are the actors that map over it.

An actor makes its worker once (it loads the skill, or opens the checkpoint) and takes shard after shard. One that dies
is started again, and its shard is done again.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from zrag_core.errors import SettingsError, ZragError
from zrag_core.settings import EngineSettings
from zrag_core.sharding.engine import Engine, Item, Made, Recipe, Worker

INSTALL = "pip install 'zrag[ray]'"
_RESTARTS = 3  # of a worker, and tries of a shard: what kills it every time is told instead of tried for ever
_STORE_BYTES = 512 * 1024**2  # of a cluster that is started here; shards and results lie in it for a moment
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
        # A block for each shard: whoever is free takes the next one.
        pipeline = from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            batch_size=1,
            compute=ActorPoolStrategy(size=min(self.workers, len(rows)), max_tasks_in_flight_per_actor=1),
            fn_constructor_args=(recipe,),
            num_cpus=self.threads,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
        )
        made: dict[int, Made] = {}
        try:
            for row in pipeline.iter_rows():
                made[int(row[_NUMBER])] = pickle.loads(row[_MADE])
                if on_done:
                    on_done(len(made))
        except ray.exceptions.RayError as error:
            raise _plain(error) from error
        return [made[number] for number in range(len(rows))]


class _Actor:
    """A worker where it works."""

    def __init__(self, recipe: Recipe[Any, Any]):
        self._worker = recipe.open()

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What the worker makes of the one shard of a batch."""
        made = self._worker(pickle.loads(batch[_SHARD][0]))
        return {_NUMBER: batch[_NUMBER], _MADE: [pickle.dumps(made)]}


@contextmanager
def ray_engine(settings: EngineSettings, threads: int) -> Iterator[RayEngine]:
    """The engine on the cluster of the settings, or on one that this process is connected to already.

    A cluster that is started here listens on loopback alone and is stopped at the end.

    Raises:
        SettingsError: Ray is not installed, or the cluster cannot be reached or has too few CPUs.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
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

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if settings.address is None:
        ray.init(
            address="local",
            num_cpus=settings.workers * threads,
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            _node_ip_address="127.0.0.1",
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
    logging.getLogger("ray.data").setLevel(logging.WARNING)


def _plain(error: Exception) -> ZragError:
    """The project's own error where a worker raised one, else what happened, in a line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ZragError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    first = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
    return ZragError(
        f"a worker failed ({first.strip()})",
        where="engine.name",
        remedy="try engine.name local, which shows the whole error; a worker that was killed may need more memory",
    )
