"""A metric: a function of one question's outcome, and how its mean is named, shown and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from zrag_core.corpus.types import Question

# Of the ranking: the same at every evidence budget. Of the evidence, of the answer: by budget.
Subject = Literal["ranking", "evidence", "answer"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The evidence that a system gave for one question and, where a reader was asked, the answer.

    Attributes:
        document_ids: ranked, best first.
        evidence: the text as cut to the budget.
        target: the evidence target; None where there is none.
        documents: texts of the corpus by id; None where they are not at hand.
        answer: the reader's; None where there is none.
        verdict: the judge's; None where none was asked or there is none.
    """

    question: Question
    document_ids: Sequence[str] = ()
    evidence: str = ""
    target: str | None = None
    documents: Mapping[str, str] | None = field(default=None, repr=False)
    answer: str | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure per question, higher is better.

    The tables `scores` and `leaderboard_entries`, the views, MLflow's names, the reports and the comparisons follow
    from it.

    Attributes:
        name: its column in the table `scores`.
        label: its name in reports.
        of: what it measures; metrics of the answer see the question, the answer and the verdict alone.
        score: the figure; None where it is not defined for the question.
        column: its mean's column in the leaderboard, and its name in MLflow; left out, `name`.
        percent: whether it lies in [0, 1] and is shown in percent.
        interval: whether the mean is given an interval and kept in MLflow; else it is a column of the warehouse.
        shown: for which questions reports have a column for it.
        by_type: whether MLflow keeps it by question type, too.
        compared: whether systems are compared by it (table `comparisons`); "main" ones are told in the summaries, too.
        version: raised whenever its meaning changes, so that rows of different meaning are never compared unawares.
    """

    name: str
    label: str
    of: Subject
    score: Callable[[Outcome], float | None]
    column: str = ""
    percent: bool = True
    interval: bool = True
    shown: Literal["always", "two_hop", "never"] = "always"
    by_type: bool = True
    compared: Literal["", "yes", "main"] = ""
    version: int = 1

    def __post_init__(self) -> None:
        if not self.column:
            object.__setattr__(self, "column", self.name)
        if self.compared and not self.percent:
            raise ValueError(f"{self.name} is compared in points, so it must be a share")

    def text(self, value: float) -> str:
        """A figure as reports show it, in percent where it is a share."""
        return f"{100 * value:.1f}" if self.percent else f"{value:.2f}"
