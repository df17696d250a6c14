"""Dagster's home for commands that run or show runs."""

from __future__ import annotations

import os
import shutil

from zrag_pipeline.platform import paths


def prepare_dagster_home() -> None:
    """Set DAGSTER_HOME where nobody has; an installed copy gets one in the current folder."""
    if os.environ.get("DAGSTER_HOME"):
        return
    home = paths.dagster_home_dir()
    if not (home / "dagster.yaml").exists():
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.SHIPPED_HOME / "dagster.yaml", home)
    os.environ["DAGSTER_HOME"] = str(home)
