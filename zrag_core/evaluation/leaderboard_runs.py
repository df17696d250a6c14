"""Which runs the lines of a leaderboard are of: a line never joins figures of two evidence runs."""

from __future__ import annotations

import pandas as pd

from zrag_core.evaluation.leaderboard import ALL_TYPES

_NO_READER = "none"


def of_newest_runs(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keep of each split and system the figures of its newest evidence run.

    An evaluation of another memory, other questions or other settings makes other evidence, and older answers say
    nothing about it.

    Args:
        frame: rows of the view `leaderboard` of one corpus, with `evidence_run_id` and `evidence_at`, the run that made
            the evidence and when.

    Returns:
        the rows that are left, and a line on each thing that a reader of them has to know: what was left out, and which
        lines are of an older run, or of another version of the metrics, than the newest.
    """
    if frame.empty:
        return frame, []
    ranked = frame.sort_values(["evidence_at", "evidence_run_id"], kind="stable")
    newest = ranked.drop_duplicates(["split", "system"], keep="last").set_index(["split", "system"])["evidence_run_id"]
    own = frame.set_index(["split", "system"]).index.map(newest).to_numpy()
    kept = frame[frame["evidence_run_id"].to_numpy() == own]
    left_out = frame[frame["evidence_run_id"].to_numpy() != own]
    latest = ranked.iloc[-1]
    notes = _notes("left out, of an older evidence run", left_out)
    older = kept[kept["evidence_run_id"] != latest["evidence_run_id"]]
    notes += _notes("of an older evidence run", older.assign(reader=_NO_READER))
    versioned = kept[kept["metric_version"].notna()]
    newest_version = ranked["metric_version"].dropna().iloc[-1:].tolist()
    stale = versioned[~versioned["metric_version"].isin(newest_version)]
    for version, rows in stale.groupby("metric_version"):
        notes += _notes(f"of metric version {version}", rows.assign(reader=_NO_READER))
    return kept, notes


def _notes(what: str, rows: pd.DataFrame) -> list[str]:
    """The systems of some rows, by split and reader, with the number of their questions."""
    notes = []
    for (split, reader), group in rows[rows["question_type"] == ALL_TYPES].groupby(["split", "reader"], sort=False):
        most = group["n_questions"].max()
        by = "" if reader == _NO_READER else f", answers by {reader}"
        systems = ", ".join(dict.fromkeys(group["system"]))
        notes.append(f"{what}: {split}{by}: {systems} ({most:,} question{'s' if most != 1 else ''})")
    return notes
