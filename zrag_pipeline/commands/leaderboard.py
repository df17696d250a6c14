"""`zrag leaderboard`: the newest measures of every system, from the warehouse."""

from __future__ import annotations

import argparse

from zrag_core.errors import WarehouseError
from zrag_pipeline.commands.arguments import Commands, add_command
from zrag_pipeline.platform import paths

# DuckDB gives the rows of a view in any order. Where the scores were removed, a run counts as its own evidence.
_ROWS = """
WITH made AS (SELECT run_id, min(created_at) AS evidence_at FROM evidence GROUP BY run_id),
    used AS (SELECT DISTINCT run_id, reader, corpus_version, evidence_run_id FROM scores)
SELECT board.*, coalesce(used.evidence_run_id, board.run_id) AS evidence_run_id,
    coalesce(made.evidence_at, board.created_at) AS evidence_at
FROM leaderboard AS board
LEFT JOIN used USING (run_id, reader, corpus_version)
LEFT JOIN made ON made.run_id = used.evidence_run_id
WHERE corpus_version = ? ORDER BY split, question_type, system, reader, budget
"""


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
    from zrag_core.evaluation.leaderboard_runs import of_newest_runs
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
    frame, notes = of_newest_runs(warehouse.query(_ROWS, [corpus_version]))
    if frame.empty:
        known = warehouse.query("SELECT DISTINCT corpus_version FROM leaderboard_all ORDER BY 1")["corpus_version"]
        raise WarehouseError(
            f"corpus version '{corpus_version}' has not been evaluated", remedy=f"known: {', '.join(known) or 'none'}"
        )
    order = list(SYSTEMS)
    compared = newest_comparisons(warehouse, corpus_version)
    if arguments.markdown:
        print(leaderboard_markdown(frame, systems=order), end="\n" if notes else "")
        print("".join(f"- {note}\n" for note in notes))
        print(comparisons_markdown(compared, systems=order))
        return 0
    # Answers are compared at the budget that the run was configured to be judged by.
    budgets = compared.loc[compared["measure"] == "f1", "budget"]
    answer_budget = None if budgets.empty else int(budgets.iloc[-1])
    print(leaderboard_text(frame, systems=order, answer_budget=answer_budget), end="")
    print("".join(f"  {note}\n" for note in notes))
    print(comparisons_text(compared, systems=order), end="")
    return 0
