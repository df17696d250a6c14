"""The registry of metrics: what one more metric changes, without another line anywhere."""

import pandas as pd
import pytest

from zrag_core.corpus.types import Question
from zrag_core.evaluation.comparison_report import comparisons_markdown
from zrag_core.evaluation.headline import headline_comparisons
from zrag_core.evaluation.html_report.tables import leaderboard_tables
from zrag_core.evaluation.leaderboard import aggregate, leaderboard_columns
from zrag_core.evaluation.leaderboard_report import leaderboard_markdown, leaderboard_sections
from zrag_core.evaluation.metrics import METRICS, Metric, Outcome, compared_metrics, metric_version, score
from zrag_pipeline.defs.evaluation.scores import system_metrics


@pytest.fixture
def register(monkeypatch):
    """Register metrics for the length of a test."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    return METRICS.add


def brevity(outcome):
    return 1 / (1 + len(outcome.evidence.split()))


def outcomes():
    """Scores of two systems on ten questions at two budgets; the second says less."""
    rows = []
    for system, evidence in (("bm25", "one two three"), ("dense", "one")):
        for budget in (64, 256):
            for i in range(10):
                question = Question(f"q{i}", "?", ("one",), (f"d{i}",), split="test")
                outcome = Outcome(question, (f"d{i}",), evidence, "one two", {f"d{i}": "one two three"}, "one")
                constants = {"corpus_version": "v1", "split": "test", "question_type": "single", "reader": "none"}
                figures = {"evidence_tokens": 2, "latency_ms": 1.0, "cost_usd": None, "cluster": f"d{i}"}
                row = {"system": system, "budget": budget, "question_id": question.id, **constants, **figures}
                rows.append(row | score(outcome, "ranking", "evidence"))
    return pd.DataFrame(rows)


def test_a_registered_metric_is_scored_averaged_shown_logged_and_compared(register):
    register(Metric("brevity", "brevity", "evidence", brevity, column="short", compared="yes"))
    scores = outcomes()
    assert scores.groupby("system")["brevity"].mean().to_dict() == {"bm25": 0.25, "dense": 0.5}
    board = aggregate(scores, samples=20)
    assert {"short", "short_low", "short_high"} < set(leaderboard_columns())
    assert board[board["system"] == "dense"]["short"].eq(0.5).all()
    assert "| brevity, 64 tokens |" in leaderboard_markdown(board)
    (section,) = leaderboard_sections(board)
    coverage = leaderboard_tables(section, 256).tables[1]
    assert coverage.columns[-1] == "brevity, 64 tokens"
    assert [(row[-1].text, row[-1].best) for row in coverage.rows] == [("25.0", False), ("50.0", True)]
    single, curves = system_metrics(board, "dense")
    assert (single["short_64"], single["interval/short_256_low"], curves[64]["short"]) == (0.5, 0.5, 0.5)
    found = headline_comparisons(scores, references=["bm25"], answer_budget=256)
    own = found[(found["measure"] == "brevity") & (found["question_type"] == "all")]
    assert own[["budget", "difference"]].values.tolist() == [[64, 0.25], [256, 0.25]]
    assert "brevity at 64 | brevity at 256" in comparisons_markdown(found)


def test_a_metric_that_is_no_share_is_shown_as_it_is(register):
    register(Metric("words", "words", "evidence", lambda o: float(len(o.evidence.split())), percent=False))
    assert "| 3.00 (3.00-3.00) |" in leaderboard_markdown(aggregate(outcomes(), samples=20))
    with pytest.raises(ValueError, match="compared in points"):
        Metric("words", "words", "evidence", brevity, percent=False, compared="yes")


def test_a_metric_without_interval_is_a_column_alone(register):
    register(Metric("brevity", "brevity", "ranking", brevity, interval=False, shown="never"))
    board = aggregate(outcomes(), samples=20)
    assert "brevity" in board
    assert "brevity_low" not in board
    assert "brevity" not in leaderboard_markdown(board)
    assert not any("brevity" in name for name in system_metrics(board, "dense")[0])


def test_a_changed_meaning_changes_the_version_of_the_rows(register):
    assert metric_version() == "2"
    register(Metric("brevity", "brevity", "evidence", brevity))
    assert metric_version() == "2", "rows without the new metric mean what they meant"
    register(Metric("terseness", "terseness", "evidence", brevity, version=3))
    assert metric_version() == "4"


def test_what_is_compared_and_in_which_order():
    names = [metric.name for metric in compared_metrics("ranking", "evidence", "answer")]
    assert names == ["recall_at_1", "recall_at_10", "answer_coverage", "f1", "em", "judged_correct"]


def test_metrics_of_the_answer():
    question = Question("q", "Who?", ("Ilse Maar",))
    assert score(Outcome(question, answer="Ilse", verdict="correct"), "answer") == {
        "em": 0.0,
        "f1": pytest.approx(2 / 3),
        "judged_correct": 1.0,
    }
    assert set(score(Outcome(question), "answer").values()) == {None}, "a failed answer is not a wrong one"
