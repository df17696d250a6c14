"""Dagster's home for commands that run or show runs."""

from __future__ import annotations

import os
import shutil

from zrag_core.errors import ZragError
from zrag_pipeline.platform import paths


def prepare_dagster_home() -> None:
    """Set DAGSTER_HOME where nobody has; an installed copy gets one in the current folder.

    Raises:
        ZragError: it is set, and no folder.
    """
    if chosen := os.environ.get("DAGSTER_HOME"):
        if not os.path.isdir(chosen):
            raise ZragError(
                "DAGSTER_HOME is no folder", where=chosen, remedy="create the folder, or unset the variable"
            )
        return
    home = paths.dagster_home_dir()
    if not (home / "dagster.yaml").exists():
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.SHIPPED_HOME / "dagster.yaml", home)
    os.environ["DAGSTER_HOME"] = str(home)
