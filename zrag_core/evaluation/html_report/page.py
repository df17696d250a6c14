"""From the figures of an evaluation to its page."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from zrag_core.corpus.types import Corpus
from zrag_core.evaluation.html_report.question_examples import HOW_CHOSEN, ROUTED, Examples, choose_examples
from zrag_core.evaluation.html_report.summary import summary_sentences, vague_sentences
from zrag_core.evaluation.html_report.tables import comparison_tables, leaderboard_tables
from zrag_core.evaluation.leaderboard import ALL_TYPES
from zrag_core.evaluation.leaderboard_report import MISSING, leaderboard_sections
from zrag_core.systems import in_family

EXAMPLES = 20
# Of the systems beside the first, so that the page stays small enough for a phone.
OTHER_EXAMPLES = 5
_PACKAGE = "zrag_core.evaluation.html_report"
# Not allowed in HTML, or without a place in UTF-8: other control characters, lone surrogates, non-characters.
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture.

    Attributes:
        title: its heading.
        alt: what it shows, for those who cannot see it.
        png: the file's bytes.
    """

    title: str
    alt: str
    png: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, from the PNG's header."""
        return struct.unpack(">II", self.png[16:24])

    @property
    def base64(self) -> str:
        """The file as text for a data URL."""
        return base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of an evaluation, as the page shows them.

    Attributes:
        corpus: the documents and questions of this version.
        corpus_version: its fingerprint.
        created: when the page was made.
        seeds: of whatever was drawn, in words.
        facts: what was run and with what (commit, versions, run ids): name -> value.
        settings: all settings, nested as they are; they hold no keys.
        stand_ins: a line for each part that stands in for another one, such as the offline reader.
        links: where to find the runs: name -> http address.
        systems: in the order of the leaderboard.
        budget: evidence tokens at which examples are shown, one of the leaderboard's budgets.
        confidence: level of the intervals.
        leaderboard: as returned by `leaderboard.aggregate`.
        questions: one row per system and question at `budget`, see `examples.choose_examples`, with `system`.
        comparisons: as returned by `headline.headline_comparisons`, or rows of the table `comparisons`; may be empty.
        plots: in the order in which they are shown.
    """

    corpus: Corpus
    corpus_version: str
    created: str
    seeds: str
    facts: Mapping[str, str]
    settings: Mapping[str, Any]
    stand_ins: Sequence[str]
    links: Mapping[str, str]
    systems: Sequence[str]
    budget: int
    confidence: float
    leaderboard: pd.DataFrame
    questions: pd.DataFrame
    comparisons: pd.DataFrame = field(default_factory=pd.DataFrame)
    plots: Sequence[Plot] = ()


def report_html(evaluation: Evaluation) -> str:
    """One page with tables, plots and examples that needs no other file, no network and no script.

    A small script makes the tables sortable; a content security policy allows nothing but it, the page's own styles
    and its pictures.

    Raises:
        ValueError: offsets of evidence that are not in their document's text.
    """
    sections = list(leaderboard_sections(evaluation.leaderboard, evaluation.systems))
    examples = list(_examples(evaluation))
    split_of = {question.id: question.split for question in evaluation.corpus.questions}
    questions = evaluation.questions.assign(split=evaluation.questions["question_id"].map(split_of))
    script = _source("sort.js")
    return _template().render(
        evaluation=evaluation,
        splits=_split_sizes(split_of, questions),
        summary=[
            *(
                sentence
                for section in sections
                if section.question_type == ALL_TYPES
                for sentence in summary_sentences(
                    section,
                    questions[questions["split"] == section.split],
                    budget=evaluation.budget,
                    confidence=evaluation.confidence,
                )
            ),
            *vague_sentences(evaluation.comparisons, budget=evaluation.budget),
        ],
        leaderboard=[leaderboard_tables(section, evaluation.budget) for section in sections],
        comparisons=list(comparison_tables(evaluation.comparisons)),
        examples=examples,
        how_chosen=HOW_CHOSEN,
        n_routed=ROUTED,
        settings=list(_flat(evaluation.settings)),
        style=Markup(_source("style.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
    )


def _examples(evaluation: Evaluation) -> Iterator[Examples]:
    """Of each system that looks for evidence, the most of the first one."""
    rows = evaluation.questions
    shown = [name for name in evaluation.systems if not in_family(name, "bound") and (rows["system"] == name).any()]
    for position, name in enumerate(shown):
        limit = OTHER_EXAMPLES if position else EXAMPLES
        yield choose_examples(name, rows[rows["system"] == name], evaluation.corpus, limit)


def _split_sizes(split_of: Mapping[str, str], questions: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Split, its questions, and how many of them were evaluated."""
    asked = Counter(split_of[name] for name in questions["question_id"].unique())
    return [(split, size, asked[split]) for split, size in Counter(split_of.values()).items()]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            yield f"{prefix}{name}", MISSING if shown is None or shown == "" else str(shown)


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {"percent": _percent, "number": "{:.3g}".format, "thousands": "{:,}".format}
    return environment.get_template("page.html")


def _shown(value: Any) -> Any:
    """Line ends as browsers read them, and U+FFFD for characters that HTML cannot hold."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _NO_TEXT.sub("\ufffd", value.replace("\r\n", "\n").replace("\r", "\n"))


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.0f}"


def _source(name: str) -> str:
    return (resources.files(_PACKAGE) / "templates" / name).read_text(encoding="utf-8")
