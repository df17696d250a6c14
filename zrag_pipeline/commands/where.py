"""`zrag where`: where data, runs and the user interfaces are."""

from __future__ import annotations

import argparse
import os
import shlex

from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.platform import paths


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    add_command(
        commands,
        "where",
        run,
        summary="say where data, runs and the user interfaces are",
        description="Print the folders that zRAG keeps its state in, and which commands show it.",
        examples=["zrag where"],
    )


def run(_arguments: argparse.Namespace) -> int:
    """Print where things are and which commands show them."""
    home = os.environ.get("DAGSTER_HOME") or str(paths.dagster_home_dir())
    data = paths.data_path()
    if data.exists():
        paths.data_dir()  # one that cannot be used is an error
    print(f"data:         {data}{'' if data.is_dir() else '  (not made yet)'}")
    print(f"warehouse:    {paths.warehouse_path()}  (tables and views, DuckDB)")
    print(f"checkpoints:  {data / 'checkpoints'}")
    print(f"DAGSTER_HOME: {home}")
    print(f"report:       {paths.newest_report() or 'none yet: the job `evaluate` writes one'}")
    ui = "make ui" if paths.CHECKOUT else "zrag ui"
    print(f"look:         {ui}   (Dagster on http://127.0.0.1:3000, MLflow on http://127.0.0.1:5000)")
    store = shlex.quote(f"sqlite:///{data / paths.MLFLOW}")
    print(f"serve:        MLFLOW_TRACKING_URI={store} \\")
    print("              mlflow models serve -m models:/zrag@champion --env-manager local --port 5001")
    print("more:         zrag leaderboard --markdown   prints every table with its intervals")
    return 0
