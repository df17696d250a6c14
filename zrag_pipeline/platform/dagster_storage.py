"""Dagster's SQLite storage, whose databases are made whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from zrag_pipeline.platform import paths
from zrag_pipeline.platform.file_lock import locked

_DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


class WholeSqliteStorage(DagsterSqliteStorage):
    """Runs, events and schedules in SQLite files below DAGSTER_HOME, as by default, but safe when first used.

    Dagster makes its databases table by table where they are then used: two first commands at once, or one that is
    killed meanwhile, leave a file that no later command can open. Here they are made aside by one process at a time,
    and moved into place.
    """

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """No settings: the folder is DAGSTER_HOME."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Any) -> WholeSqliteStorage:
        """Open the storage; whatever it lacks is made first."""
        home = paths.dagster_home_dir()
        if not _whole(home):
            with locked(home / ".first-use.lock"):
                if not _whole(home):
                    _make_missing(home)
        return cls.from_local(str(home), inst_data)


def _whole(home: Path) -> bool:
    return all((home / name).exists() for name in _DATABASES)


def _make_missing(home: Path) -> None:
    aside = home / ".first-use"
    shutil.rmtree(aside, ignore_errors=True)  # left by a process that was killed: nobody else holds the lock
    DagsterSqliteStorage.from_local(str(aside)).dispose()
    for name in _DATABASES:
        if not (home / name).exists():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).rename(home / name)
    shutil.rmtree(aside)
