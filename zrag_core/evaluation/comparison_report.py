"""The headline comparisons as Markdown for reports and as a short block for terminals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from zrag_core.evaluation.leaderboard import ALL_TYPES
from zrag_core.evaluation.leaderboard_report import MISSING, markdown_table
from zrag_core.evaluation.metrics import METRICS, compared_metrics
from zrag_core.systems import in_family


def comparisons_markdown(frame: pd.DataFrame, *, systems: Sequence[str] = ()) -> str:
    """A table of verdicts per split, question type and reference, and the most telling ones in words.

    Args:
        frame: as returned by `headline.headline_comparisons`, or read from the table `comparisons`.
        systems: their order; left out, the order of appearance.
    """
    blocks = []
    for title, reference, rows in comparison_sections(frame):
        columns, named = measure_columns(rows), _in_order(rows["system"].unique(), systems)
        blocks.append(f"### Against `{reference}`: {title}")
        blocks.append(
            f"Differences in points on the same questions; in brackets their {_level(rows)} intervals from a bootstrap "
            "over documents. **Above** and **below** are shown at this level after Holm's correction over the pairs "
            "of the measure; everything else is no difference shown."
        )
        cells = [[f"`{name}`", *(_markdown_cell(own, name) for own in columns.values())] for name in named]
        blocks.append(markdown_table(["system", *columns], cells))
        verdicts = [
            f"- {label}: {own.loc[name, 'verdict']}"
            for label, own in columns.items()
            for name in named
            if name in own.index and _is_main(own) and METRICS[own["measure"].iloc[0]].of != "ranking"
        ]
        blocks.append("\n".join(verdicts))
    return "\n\n".join(block for block in blocks if block) + "\n" if blocks else "There was nothing to compare.\n"


def comparisons_text(frame: pd.DataFrame, *, systems: Sequence[str] = ()) -> str:
    """The comparisons with the main reference at the answered budget, all question types, one line per system.

    Args:
        frame: as returned by `headline.headline_comparisons`; its first reference is the main one.
        systems: their order; left out, the order of appearance.

    Returns:
        A block of lines for each split, at most 110 characters wide, without floor and ceiling; empty
        where nothing was compared.
    """
    blocks: dict[tuple[str, str], str] = {}
    for title, reference, rows in comparison_sections(frame[frame["question_type"] == ALL_TYPES]):
        key = (rows["corpus_version"].iloc[0], rows["split"].iloc[0])
        if key not in blocks:
            blocks[key] = _text_block(title, reference, rows, systems)
    return "\n\n".join(blocks.values()) + "\n" if blocks else ""


def comparison_sections(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Take the table `comparisons` apart.

    Yields:
        For each split, question type and reference: a title without the reference, the reference, its rows. A lone
        question type is told of as all questions.
    """
    for (_, split), group in frame.groupby(["corpus_version", "split"], sort=False):
        sizes = group.groupby("question_type")["n_questions"].max()
        for kind in group["question_type"].unique():
            if kind != ALL_TYPES and sizes[kind] == sizes.get(ALL_TYPES):
                continue
            title = f"{split}{'' if kind == ALL_TYPES else f', {kind}'}, {sizes[kind]:,} questions"
            of_type = group[group["question_type"] == kind]
            for reference in of_type["reference"].unique():
                yield title, reference, of_type[of_type["reference"] == reference]


def measure_columns(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Label -> rows with the system as index, for each measure, budget and reader of one section."""
    columns = {}
    for metric in compared_metrics("ranking", "evidence", "answer"):
        for (budget, reader), own in rows[rows["measure"] == metric.name].groupby(["budget", "reader"]):
            at = "" if metric.of == "ranking" else f" at {budget}"
            by = f", {reader}" if metric.of == "answer" else ""
            columns[f"{metric.label}{at}{by}"] = own.set_index("system")
    return columns


def is_shown(row: pd.Series) -> bool:
    """Whether a row's difference is shown at its confidence, all pairs of its measure considered."""
    return bool(row["p_adjusted"] < 1 - row["confidence"])


def _is_main(own: pd.DataFrame) -> bool:
    return METRICS[own["measure"].iloc[0]].compared == "main"


def _text_block(title: str, reference: str, rows: pd.DataFrame, systems: Sequence[str]) -> str:
    answered = rows[rows["budget"] == rows["budget"].max()]
    columns = {label: own for label, own in measure_columns(answered).items() if _is_main(own)}
    table = [
        [name, *(_text_cell(own, name) for own in columns.values())]
        for name in _in_order(rows["system"].unique(), systems)
        if not in_family(name, "bound")
    ]
    table = [["system", *columns], *table]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    head, *lines = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in table)
    return "\n".join(
        [
            f"Against {reference}: {title} (points; =: no difference shown, Holm-corrected)",
            head,
            "-" * (sum(widths) + 2 * len(widths) - 2),
            *lines,
            f"  {_level(rows)} intervals from a bootstrap over documents; more: zrag leaderboard --markdown",
        ]
    )


def _in_order(names: Sequence[str], systems: Sequence[str]) -> list[str]:
    order = {system: rank for rank, system in enumerate(dict.fromkeys([*systems, *names]))}
    return sorted(names, key=order.__getitem__)


def _markdown_cell(own: pd.DataFrame, system: str) -> str:
    """`**above** by 4.1 (2.0 to 6.2)`, or `no difference shown, -0.3 (-1.0 to 0.6)`."""
    if system not in own.index:
        return MISSING
    row = own.loc[system]
    if not is_shown(row):
        return f"no difference shown, {100 * row['difference']:z.1f}{_interval(row)}"
    points = 100 * row["difference"]
    sign = 1 if points > 0 else -1
    return f"**{'above' if sign > 0 else 'below'}** by {abs(points):.1f}{_interval(row, sign)}"


def _text_cell(own: pd.DataFrame, system: str) -> str:
    """`above +4.1 (2.0 to 6.2)`, or `= -0.3 (-1.0 to 0.6)`."""
    if system not in own.index:
        return MISSING
    row = own.loc[system]
    word = ("above" if row["difference"] > 0 else "below") if is_shown(row) else "="
    return f"{word} {100 * row['difference']:+z.1f}{_interval(row)}"


def _interval(row: pd.Series, sign: int = 1) -> str:
    """` (2.0 to 6.2)` in points; empty where all questions belong to one document."""
    if pd.isna(row["low"]):
        return ""
    low, high = sorted((100 * sign * row["low"], 100 * sign * row["high"]))
    return f" ({low:z.1f} to {high:z.1f})"


def _level(rows: pd.DataFrame) -> str:
    return f"{100 * rows['confidence'].iloc[0]:g}%"
