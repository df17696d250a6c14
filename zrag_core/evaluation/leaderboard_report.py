"""The leaderboard as Markdown for reports and as aligned text for terminals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from zrag_core.evaluation.leaderboard import ALL_TYPES
from zrag_core.evaluation.metrics import METRICS, Metric, Subject, metrics_of
from zrag_core.settings import LOCAL_MODEL

READER_LABELS = {"offline": "offline (extractive stand-in)", "local": f"local ({LOCAL_MODEL})"}
MISSING = "-"
_TEXT_BUDGETS = 4
# What a terminal has room for, beside coverage.
_TEXT_RANKING = {"@1": "recall_at_1", "@5": "recall_at_5", "@10": "recall_at_10", "MRR": "mrr"}
_TEXT_ANSWERS = {"EM": "em", "F1": "f1"}
COVERAGE = "answer_coverage"


@dataclass(frozen=True, slots=True)
class LeaderboardSection:
    """The leaderboard of one corpus version, split and question type.

    Attributes:
        two_hop: whether all of its questions need two documents.
        by_system: one row per system, for what does not depend on the budget.
        by_budget: one row per system and budget.
        answered: the rows that have answers: system, reader and budget.
    """

    corpus_version: str
    split: str
    question_type: str
    n_questions: int
    two_hop: bool
    by_system: pd.DataFrame
    by_budget: pd.DataFrame
    answered: pd.DataFrame

    @property
    def budgets(self) -> list[int]:
        """The evidence budgets, smallest first."""
        return sorted(self.by_budget["budget"].unique().tolist())

    @property
    def title(self) -> str:
        """Split, question type and number of questions."""
        kind = "" if self.question_type == ALL_TYPES else f", {self.question_type}"
        return f"{self.split}{kind}, {self.n_questions:,} question{'s' if self.n_questions != 1 else ''}"

    def metrics(self, subject: Subject) -> list[Metric]:
        """The metrics that reports show of these questions; those of the answer only where they have values."""
        shown = {"always", "two_hop"} if self.two_hop else {"always"}
        metrics = [metric for metric in metrics_of(subject) if metric.shown in shown]
        if subject != "answer":
            return metrics
        return [m for m in metrics if m.column in self.answered and self.answered[m.column].notna().any()]


def leaderboard_sections(frame: pd.DataFrame, systems: Sequence[str] = ()) -> Iterator[LeaderboardSection]:
    """Take a leaderboard apart.

    Args:
        frame: as returned by `leaderboard.aggregate`, or read from the view `leaderboard`.
        systems: their order; those not named follow in order of appearance.

    Yields:
        For each corpus version and split, all question types together and, where there are several,
        each of them.
    """
    order = {system: rank for rank, system in enumerate(dict.fromkeys([*systems, *frame["system"]]))}

    def rank(column: pd.Series) -> pd.Series:
        return column.map(order) if column.name == "system" else column

    for (version, split), group in frame.groupby(["corpus_version", "split"], sort=False):
        types = [kind for kind in group["question_type"].unique() if kind != ALL_TYPES]
        for kind in [ALL_TYPES, *(types if len(types) > 1 else [])]:
            rows = group[group["question_type"] == kind]
            if rows.empty:
                continue
            # A reader may have answered a part of the questions only; the fullest row speaks for the system.
            fullest = rows.sort_values("n_questions", ascending=False, kind="stable")
            ranked = [
                part.sort_values(["system", "budget"], key=rank, kind="stable")
                for part in (
                    fullest.drop_duplicates("system"),
                    fullest.drop_duplicates(["system", "budget"]),
                    rows[rows["f1"].notna()],
                )
            ]
            two_hop = (kind if kind != ALL_TYPES or len(types) != 1 else types[0]) == "two_hop"
            yield LeaderboardSection(version, split, kind, int(rows["n_questions"].max()), two_hop, *ranked)


def leaderboard_markdown(frame: pd.DataFrame, *, systems: Sequence[str] = (), confidence: float = 0.95) -> str:
    """The leaderboard as Markdown tables, in percent with intervals.

    Args:
        frame: as returned by `leaderboard.aggregate`.
        systems: their order; left out, the order of appearance.
        confidence: the level of the intervals in `frame`, for the caption.
    """
    blocks: list[str] = []
    for section in leaderboard_sections(frame, systems):
        blocks.append(f"### {section.title}")
        blocks.append(f"Corpus version `{section.corpus_version}`. {_caption(confidence)}")
        blocks.append("**Retrieval**\n\n" + markdown_table(*_retrieval_table(section)))
        blocks.append("**Answer coverage, by evidence tokens**\n\n" + markdown_table(*_coverage_table(section)))
        if not section.answered.empty:
            blocks.append("**Answers**\n\n" + markdown_table(*_answer_table(section)))
    return "\n\n".join(blocks) + "\n" if blocks else "No question was evaluated.\n"


def leaderboard_text(
    frame: pd.DataFrame, *, systems: Sequence[str] = (), confidence: float = 0.95, answer_budget: int | None = None
) -> str:
    """The leaderboard for a terminal of 110 columns: one line per system, percentages without intervals.

    Args:
        frame: as returned by `leaderboard.aggregate`.
        systems: their order; left out, the order of appearance.
        confidence: the level of the intervals in `frame`, for the note below the table.
        answer_budget: which answers are shown where a reader answered at several budgets; left out, and where there
            are none at this budget, those at the largest.
    """
    blocks = [_text_table(section, confidence, answer_budget) for section in leaderboard_sections(frame, systems)]
    return "\n\n".join(blocks) + "\n" if blocks else "No question was evaluated.\n"


def _retrieval_table(section: LeaderboardSection) -> tuple[list[str], list[list[str]]]:
    metrics = section.metrics("ranking")
    header = ["system", *(metric.label for metric in metrics), "latency p50 / p95, ms"]
    rows = [
        [
            f"`{row['system']}`",
            *(_with_interval(row, metric) for metric in metrics),
            f"{_milliseconds(row['latency_p50_ms'])} / {_milliseconds(row['latency_p95_ms'])}",
        ]
        for _, row in section.by_system.iterrows()
    ]
    return header, rows


def _coverage_table(section: LeaderboardSection) -> tuple[list[str], list[list[str]]]:
    """Coverage at every budget; the other metrics at the smallest, whose length is nearest to the targets'."""
    budgets, coverage = section.budgets, METRICS[COVERAGE]
    others = [metric for metric in section.metrics("evidence") if metric is not coverage]
    header = ["system", *map(str, budgets), *(f"{metric.label}, {budgets[0]} tokens" for metric in others)]
    rows = []
    for system, group in section.by_budget.groupby("system", sort=False):
        by_budget = {row["budget"]: row for _, row in group.iterrows()}
        cells = [_with_interval(by_budget.get(budget), coverage) for budget in budgets]
        rows.append([f"`{system}`", *cells, *(_with_interval(by_budget.get(budgets[0]), other) for other in others)])
    return header, rows


def _answer_table(section: LeaderboardSection) -> tuple[list[str], list[list[str]]]:
    """Answers by system and reader; what the judge cost only where one was asked."""
    metrics = section.metrics("answer")
    costs = {"cost, USD": "cost_usd"}
    if any(metric.name == "judged_correct" for metric in metrics):
        costs["judge, USD"] = "judge_cost_usd"
    header = ["system", "reader", "budget", "questions", *(m.label for m in metrics), "evidence tokens", *costs]
    rows = [
        [
            f"`{row['system']}`",
            reader_label(row["reader"]),
            str(row["budget"]),
            f"{row['n_questions']:,}",
            *(_with_interval(row, metric) for metric in metrics),
            _number(row["evidence_tokens"], "{:.0f}"),
            *(_number(row[column], "{:.4f}") for column in costs.values()),
        ]
        for _, row in section.answered.iterrows()
    ]
    return header, rows


def _text_table(section: LeaderboardSection, confidence: float, answer_budget: int | None) -> str:
    budgets = _spread(section.budgets, _TEXT_BUDGETS)
    # One pair of columns per reader, of the wanted budget or the largest.
    ranked = section.answered.assign(wanted=section.answered["budget"] == answer_budget)
    shown = ranked.sort_values(["wanted", "budget"]).drop_duplicates(["system", "reader"], keep="last")
    readers = list(dict.fromkeys(section.answered["reader"]))
    answers = shown.set_index(["system", "reader"])
    evidence = section.by_budget.set_index(["system", "budget"])
    coverage, rouge = evidence[COVERAGE], evidence["rouge_l"]

    coverage_label = {1: "cov.", 2: "coverage"}.get(len(budgets), "coverage at tokens")
    groups = [
        ("recall", len(_TEXT_RANKING)),
        (coverage_label, len(budgets)),
        ("ROUGE", 1),
        *((r, len(_TEXT_ANSWERS)) for r in readers),
    ]
    header = ["system", *_TEXT_RANKING, *map(str, budgets), f"-L@{budgets[0]}", *[*_TEXT_ANSWERS] * len(readers)]
    rows = []
    for _, row in section.by_system.iterrows():
        system = row["system"]
        cells = [_percent(row[column]) for column in _TEXT_RANKING.values()]
        cells += [_percent(coverage.get((system, budget))) for budget in budgets]
        cells.append(_percent(rouge.get((system, budgets[0]))))
        for reader in readers:
            found = (system, reader) in answers.index
            cells += [
                _percent(answers.loc[(system, reader), column]) if found else MISSING
                for column in _TEXT_ANSWERS.values()
            ]
        rows.append([system, *cells, _milliseconds(row["latency_p50_ms"])])
    header.append("ms")

    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    widths[1:] = [max(width, 5) for width in widths[1:]]
    lines = [_group_line(groups, widths), _aligned(header, widths), "-" * (sum(widths) + len(widths) - 1)]
    lines += [_aligned(row, widths) for row in rows]
    notes = [f"{reader}: {reader_label(reader)}" for reader in readers if reader in READER_LABELS]
    answered = sorted(shown["budget"].unique())
    if answered:
        notes.append(f"EM and F1 at {' and '.join(map(str, answered))} evidence tokens")
    if (half := _widest_half_interval(section)) is not None:
        notes.append(f"{confidence:.0%} intervals: up to +/-{half:.1f} points")
    heading = f"{section.title} (percent; corpus {section.corpus_version[:12]})"
    return "\n".join([heading, *lines, *(f"  {note}" for note in notes)])


def _group_line(groups: Sequence[tuple[str, int]], widths: Sequence[int]) -> str:
    """The line above the header, with the name of each group of columns over them."""
    line, column = " " * widths[0], 1
    for label, size in groups:
        width = sum(widths[column : column + size]) + size - 1
        line += " " + (f" {label} ".center(width, ".") if size > 1 else label.rjust(width))
        column += size
    return line.rstrip()


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return " ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])


def _spread(values: Sequence[int], n: int) -> list[int]:
    """At most `n` of the values, evenly spaced, first and last among them."""
    if len(values) <= n:
        return list(values)
    return [values[round(i * (len(values) - 1) / (n - 1))] for i in range(n)]


def _widest_half_interval(section: LeaderboardSection) -> float | None:
    """Half the widest interval of the shown percentages, in points; None without intervals."""
    shown = [*_TEXT_RANKING.values(), COVERAGE, "rouge_l", *_TEXT_ANSWERS.values()]
    rows = pd.concat([section.by_budget, section.answered])
    widths = [(rows[f"{measure}_high"] - rows[f"{measure}_low"]).max() for measure in shown]
    known = [float(width) for width in widths if pd.notna(width)]
    return 50 * max(known) if known else None


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is aligned to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _caption(confidence: float) -> str:
    return f"Percent; in brackets the {confidence:.0%} interval from a bootstrap that resamples documents."


def reader_label(reader: object) -> str:
    """The name under which a reader is shown; the offline one says what it is."""
    return MISSING if pd.isna(reader) else READER_LABELS.get(str(reader), str(reader))


def _with_interval(row: pd.Series | None, metric: Metric) -> str:
    """`92.1 (88.0-95.4)`, without brackets where there is no interval."""
    if row is None or pd.isna(row[metric.column]):
        return MISSING
    low, high = row.get(f"{metric.column}_low"), row.get(f"{metric.column}_high")
    interval = "" if pd.isna(low) else f" ({metric.text(low)}-{metric.text(high)})"
    return metric.text(row[metric.column]) + interval


def _percent(value: float | None) -> str:
    return MISSING if value is None or pd.isna(value) else f"{100 * value:.1f}"


def _milliseconds(value: float) -> str:
    if pd.isna(value):
        return MISSING
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _number(value: float, form: str) -> str:
    return MISSING if pd.isna(value) else form.format(value)
