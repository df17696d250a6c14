"""The command `zrag`: what people ask of a finished run."""

from __future__ import annotations

import argparse
import os
import sys
import typing
from collections.abc import Sequence

from zrag_core.errors import WarehouseError, ZragError
from zrag_pipeline import paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors that a person can act on are one line and exit code 1."""
    parser = argparse.ArgumentParser(
        prog="zrag", description="zRAG: a memory inside a local LLM instead of a retriever."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    board = commands.add_parser("leaderboard", help="print the newest leaderboard of a corpus")
    board.add_argument("--corpus-version", help="which corpus (default: the one evaluated last)")
    board.add_argument("--markdown", action="store_true", help="Markdown with intervals instead of a terminal table")
    commands.add_parser("where", help="say where data, runs and the user interfaces are")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "leaderboard":
            print_leaderboard(chosen.corpus_version, markdown=chosen.markdown)
        else:
            print_places()
        sys.stdout.flush()  # a pipe that is closed shows here, not when Python ends
    except ZragError as error:
        print(f"zrag: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `zrag leaderboard | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def print_leaderboard(corpus_version: str | None, *, markdown: bool) -> None:
    """Print the view `leaderboard` for one corpus version, and which differences are shown.

    Raises:
        WarehouseError: nothing has been evaluated yet.
    """
    from zrag_core.evaluation.comparison_report import comparisons_markdown, comparisons_text
    from zrag_core.evaluation.report import leaderboard_markdown, leaderboard_text
    from zrag_core.settings import System
    from zrag_pipeline.comparisons import newest_comparisons
    from zrag_pipeline.warehouse import Warehouse

    warehouse = Warehouse(paths.warehouse_file())
    if corpus_version is None:
        newest = warehouse.query("SELECT corpus_version FROM leaderboard_all ORDER BY created_at DESC LIMIT 1")
        if newest.empty:
            raise WarehouseError(
                "nothing has been evaluated yet", where=str(warehouse.path), remedy="run `make demo`, or the job `full`"
            )
        corpus_version = newest["corpus_version"][0]
    # DuckDB gives the rows of a view in any order.
    frame = warehouse.query(
        "SELECT * FROM leaderboard WHERE corpus_version = ? ORDER BY split, question_type, system, reader, budget",
        [corpus_version],
    )
    if frame.empty:
        known = warehouse.query("SELECT DISTINCT corpus_version FROM leaderboard_all ORDER BY 1")["corpus_version"]
        raise WarehouseError(
            f"corpus version '{corpus_version}' has not been evaluated", remedy=f"known: {', '.join(known) or 'none'}"
        )
    order = typing.get_args(System)
    compared = newest_comparisons(warehouse, corpus_version)
    if markdown:
        print(leaderboard_markdown(frame, systems=order))
        print(comparisons_markdown(compared, systems=order))
        return
    # Answers are compared at the budget that the run was configured to be judged by.
    budgets = compared.loc[compared["measure"] == "f1", "budget"]
    print(leaderboard_text(frame, systems=order, answer_budget=None if budgets.empty else int(budgets.iloc[-1])))
    print(comparisons_text(compared, systems=order), end="")


def print_places() -> None:
    """Print where things are and which commands show them."""
    home = os.environ.get("DAGSTER_HOME") or str(paths.dagster_home_dir())
    print(f"data:         {paths.data_dir()}")
    print(f"warehouse:    {paths.warehouse_file()}  (tables and views, DuckDB)")
    print(f"checkpoints:  {paths.checkpoints_dir()}")
    print(f"DAGSTER_HOME: {home}")
    print(f"report:       {paths.newest_report() or 'none yet: the job `evaluate` writes one'}")
    print("look:         make ui   (Dagster on http://127.0.0.1:3000, MLflow on http://127.0.0.1:5000)")
    print("more:         zrag leaderboard --markdown   prints every table with its intervals")


if __name__ == "__main__":
    sys.exit(main())
