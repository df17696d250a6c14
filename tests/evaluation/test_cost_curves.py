"""Curves at equal cost show the numbers of the leaderboard, and say what they are measured against."""

import numpy as np
import pandas as pd
import pytest

from zrag_core.evaluation import cost_curves, plots
from zrag_core.evaluation.cost_curves import TOKENS, _spread_out, cost_curve
from zrag_core.evaluation.leaderboard import ESTIMATED_COST, LIST_COST, aggregate
from zrag_core.evaluation.plots import leaderboard_plots

BUDGETS = (64, 128, 256, 512)
SYSTEMS = ("zrag", "bm25_sentence", "bm25", "closed_book", "gold_evidence")
TYPES = ("single", "two_hop", "vague")


def board(systems=SYSTEMS, answered=BUDGETS, reader="openai", dollars=0.01):
    """A leaderboard whose coverage rises with the budget; the closed book hands over nothing."""
    generator = np.random.default_rng(0)
    table = []
    for rank, system in enumerate(systems):
        for budget in BUDGETS:
            for i in range(30):
                covered = float(generator.random() < 0.2 + 0.1 * np.log2(budget / 64) + 0.1 * rank)
                row = dict.fromkeys(("recall_at_1", "recall_at_5", "recall_at_10", "recall_all_at_10"), covered)
                row |= dict.fromkeys(("reciprocal_rank", "rouge_l", "grounded"), covered)
                row |= {"corpus_version": "c", "split": "test", "question_type": TYPES[i % 3], "system": system}
                row |= {"budget": budget, "question_id": f"q{i}", "cluster": f"d{i // 2}", "latency_ms": 1.0}
                row |= {"answer_coverage": covered, "evidence_tokens": 0 if system == "closed_book" else budget - 4}
                given = budget in answered
                row |= {"reader": reader if given else "none", "cost_usd": 0.0 if given else None}
                row |= {"em": covered if given else None, "f1": covered / 2 if given else None}
                table.append(row)
    frame = aggregate(pd.DataFrame(table), samples=50)
    return frame.assign(**{LIST_COST: np.where(frame["f1"].notna(), dollars * frame["budget"], np.nan)})


@pytest.fixture
def figures(monkeypatch):
    """Figures in the order they were drawn."""
    seen = []

    def remember(figure):
        seen.append(figure)
        return b"png"

    monkeypatch.setattr(cost_curves, "png", remember)
    monkeypatch.setattr(plots, "png", remember)
    return seen


def line_of(axes, style):
    """The system's line; the mark before its name is a line of one point."""
    return next(line for line in axes.lines if line.get_marker() == style.marker and len(line.get_xdata()) > 1)


def test_lines_and_bands_are_the_leaderboards_numbers(figures):
    frame = board()
    rows = frame[frame["question_type"] == "all"]
    assert cost_curve(rows, "answer_coverage", TOKENS, "title") == b"png"
    axes = figures[0].axes[0]
    styles = cost_curves.system_styles(SYSTEMS)
    for name in ("zrag", "bm25_sentence", "bm25", "gold_evidence"):
        own = rows[rows["system"] == name].sort_values("budget")
        line = line_of(axes, styles[name])
        assert list(line.get_xdata()) == [60, 124, 252, 508]
        assert list(line.get_ydata()) == own["answer_coverage"].tolist()
    bands = [path.vertices for collection in axes.collections for path in collection.get_paths()]
    assert len(bands) == 4
    zrag = rows[rows["system"] == "zrag"]
    assert {y for _, y in bands[0]} >= set(zrag["answer_coverage_low"]) | set(zrag["answer_coverage_high"])
    (level,) = (line for line in axes.lines if list(line.get_xdata()) == [0, 1])
    closed = rows[(rows["system"] == "closed_book") & (rows["budget"] == 512)]["answer_coverage"].item()
    assert list(level.get_ydata()) == [closed, closed], "across the figure"
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "128", "256", "512"]
    ends = {text.get_text().split()[0] for text in axes.texts}
    assert ends == set(SYSTEMS)
    assert "64 to 512" in axes.get_xlabel()


def test_what_hands_over_less_than_the_smallest_budget_has_ticks_too(figures):
    frame = board(systems=("zrag", "gold_evidence"))
    rows = frame[frame["question_type"] == "all"].copy()
    rows.loc[rows["system"] == "gold_evidence", "evidence_tokens"] = 25.0
    cost_curve(rows, "answer_coverage", TOKENS, "title")
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["32", "64", "128", "256", "512"]
    assert axes.get_xlim()[0] < 25


def test_dollars_start_at_zero(figures):
    rows = board().query("question_type == 'all'")
    cost_curve(rows, "f1", LIST_COST, "title")
    axes = figures[0].axes[0]
    assert axes.get_xlim() == (0, pytest.approx(1.08 * 5.12))
    line = line_of(axes, cost_curves.system_styles(SYSTEMS)["zrag"])
    assert list(line.get_xdata()) == pytest.approx([0.64, 1.28, 2.56, 5.12])
    assert "US dollars per 1,000 questions" in axes.get_xlabel()


def test_one_answered_budget_is_points_with_intervals(figures):
    rows = board(answered=(256,)).query("question_type == 'all' and reader == 'openai'")
    cost_curve(rows, "f1", TOKENS, "title")
    axes = figures[0].axes[0]
    assert not [collection for collection in axes.collections if not hasattr(collection, "get_segments")], "no bands"
    assert axes.get_xlabel().endswith("mean at a budget of 256")
    points = {line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [252]}
    assert points >= set(rows[rows["evidence_tokens"] > 0]["f1"])


@pytest.mark.parametrize(
    ("frame", "drawn"),
    [
        (board(), {"f1_curve.png", "coverage_cost.png", "f1_cost.png"}),
        (board(dollars=0.0), {"f1_curve.png"}),
        # Nothing was paid: coverage, which no answer decides, against what a model would cost.
        (board(dollars=0.0).assign(**{ESTIMATED_COST: 1.5}), {"f1_curve.png", "coverage_cost.png"}),
        (board(answered=()), set()),
        (board().drop(columns=[LIST_COST]), {"f1_curve.png"}),
    ],
)
def test_nothing_is_drawn_without_values(figures, frame, drawn):
    assert set(leaderboard_plots(frame, "test")) & {"f1_curve.png", "coverage_cost.png", "f1_cost.png"} == drawn


def test_question_types_are_bars_at_one_budget(figures):
    frame = board()
    found = list(leaderboard_plots(frame, "test", budget=128))
    axes = figures[found.index("question_types.png")].axes[0]
    assert "128 tokens" in axes.get_title(loc="left")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"{kind} (10)" for kind in TYPES]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(SYSTEMS)
    at = frame[frame["budget"] == 128].set_index(["question_type", "system"])["answer_coverage"]
    widths = [round(patch.get_width(), 9) for patch in axes.patches]
    assert widths == [round(at[kind, system], 9) for kind in TYPES for system in SYSTEMS]


def test_answers_are_shown_at_the_wanted_budget(figures):
    found = list(leaderboard_plots(board(), "test", budget=256))
    axes = figures[found.index("answers.png")].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(SYSTEMS)
    assert "256 tokens" in axes.get_title(loc="left")


def test_two_readers_are_lines_of_their_own(figures):
    frame = pd.concat([board(("bm25",)), board(("bm25",), reader="judge")])
    found = list(leaderboard_plots(frame, "test"))
    texts = {text.get_text().rsplit("  ")[0] for text in figures[found.index("f1_curve.png")].axes[0].texts}
    assert texts == {"bm25, openai", "bm25, judge"}


def test_labels_keep_their_distance_and_their_order():
    heights = [0.5, 0.5, 0.9, 0.52, 0.0, 1.0, 0.99]
    placed = _spread_out(heights, gap=0.05)
    assert np.diff(sorted(placed)).min() >= 0.05 - 1e-9
    assert np.argsort(placed, kind="stable").tolist() == np.argsort(heights, kind="stable").tolist()
    assert min(placed) >= 0
    assert max(placed) <= 1 + 1e-9
    assert _spread_out([0.2, 0.8], gap=0.05) == pytest.approx([0.2, 0.8])
