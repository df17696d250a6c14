"""`zrag leaderboard`: the newest measures of every system, from the warehouse."""

from __future__ import annotations

import argparse

from zrag_core.errors import WarehouseError
from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.platform import paths


def register(commands: Commands) -> None:
    """Add the command to the parser of `zrag`."""
    parser = add_command(
        commands,
        "leaderboard",
        run,
        summary="print the newest leaderboard of a corpus",
        description="Print how every system did on the corpus that was evaluated last.",
        examples=["zrag leaderboard", "zrag leaderboard --markdown > results.md"],
    )
    parser.add_argument("--corpus-version", metavar="ID", help="which corpus (default: the one evaluated last)")
    parser.add_argument("--markdown", action="store_true", help="Markdown with intervals instead of a terminal table")


def run(arguments: argparse.Namespace) -> int:
    """Print the view `leaderboard` for one corpus version, and which differences are shown.

    Raises:
        WarehouseError: nothing has been evaluated yet.
    """
    from zrag_core.evaluation.comparison_report import comparisons_markdown, comparisons_text
    from zrag_core.evaluation.leaderboard_report import leaderboard_markdown, leaderboard_text
    from zrag_core.systems import SYSTEMS
    from zrag_pipeline.defs.evaluation.comparisons import newest_comparisons
    from zrag_pipeline.platform.warehouse import Warehouse

    warehouse, corpus_version = Warehouse(paths.warehouse_path()), arguments.corpus_version
    nothing = WarehouseError(
        "nothing has been evaluated yet", where=str(warehouse.path), remedy="run `make demo`, or the job `full`"
    )
    if not warehouse.path.is_file():  # looking makes none
        raise nothing
    if corpus_version is None:
        newest = warehouse.query("SELECT corpus_version FROM leaderboard_all ORDER BY created_at DESC LIMIT 1")
        if newest.empty:
            raise nothing
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
    order = list(SYSTEMS)
    compared = newest_comparisons(warehouse, corpus_version)
    if arguments.markdown:
        print(leaderboard_markdown(frame, systems=order))
        print(comparisons_markdown(compared, systems=order))
        return 0
    # Answers are compared at the budget that the run was configured to be judged by.
    budgets = compared.loc[compared["measure"] == "f1", "budget"]
    print(leaderboard_text(frame, systems=order, answer_budget=None if budgets.empty else int(budgets.iloc[-1])))
    print(comparisons_text(compared, systems=order), end="")
    return 0
