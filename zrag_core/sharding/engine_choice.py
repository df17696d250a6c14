"""Which engine goes through the shards, as the settings say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zrag_core.settings import EngineSettings
from zrag_core.sharding.engine import Engine, LocalEngine
from zrag_core.sharding.ray_engine import ray_engine


@contextmanager
def open_engine(settings: EngineSettings, threads: int) -> Iterator[Engine]:
    """The engine of the settings.

    Args:
        threads: CPU threads of each worker; sums may differ in the last bit between one number of threads and another.

    Raises:
        SettingsError: the engine's library is not installed, or the cluster has too few CPUs or cannot be reached.
    """
    if settings.name == "local":
        yield LocalEngine()
        return
    with ray_engine(settings, threads) as engine:
        yield engine
