"""From what systems hand over to rows of `evidence`, `scores` and the leaderboard, through a real warehouse."""

import math

import pandas as pd
import pytest

from zrag_core.corpus.samples import evaluated_questions
from zrag_core.corpus.types import Corpus, Document, EvidenceTarget, Question
from zrag_core.errors import WarehouseError
from zrag_core.evaluation.leaderboard_report import leaderboard_markdown
from zrag_core.evidence import Evidence, Retrieved, Segment
from zrag_core.settings import EvaluationSettings, load_settings
from zrag_core.text import evidence_tokens
from zrag_pipeline.defs.answers.answer_run import score_answers
from zrag_pipeline.defs.evaluation.publication import store_leaderboard
from zrag_pipeline.defs.evaluation.scores import (
    answer_score_rows,
    evidence_rows,
    leaderboard_rows,
    load_evidence,
    score_rows,
    system_metrics,
)
from zrag_pipeline.platform.handles import AnswersHandle, EvidenceHandle, ScoresHandle
from zrag_pipeline.platform.warehouse import Warehouse

DOCUMENTS = (
    Document("town", "Tarn", "Tarn was founded by Ilse Maar. It lies at a lake."),
    Document("섬", "서린도", "서린도는 남쪽 바다에 있는 섬이다. 등대가 하나 있다."),
    Document("lake", "Lake", "The lake is deep."),
)
QUESTIONS = (
    Question("q1", "Who founded Tarn?", ("Ilse Maar",), ("town",), split="test"),
    Question("q2", "서린도는 어디에 있나?", ("남쪽 바다",), ("섬",), split="test", language="ko"),
    Question("q3", "Who sank in it?", (), (), split="unanswerable"),
    Question("q4", "Which lake does Tarn lie at?", ("Lake",), ("town", "lake"), split="test", question_type="two_hop"),
)
CORPUS = Corpus("towns", DOCUMENTS, QUESTIONS)
TARGETS = (
    EvidenceTarget("q1", QUESTIONS[0].question, ("town",), "Tarn was founded by Ilse Maar.", "gold", "test"),
    EvidenceTarget("q2", QUESTIONS[1].question, ("섬",), "서린도는 남쪽 바다에 있는 섬이다.", "gold", "test"),
)
SETTINGS = EvaluationSettings(bootstrap_samples=50)


class WholeDocuments:
    """Hands over every document in a fixed order, and refuses q3."""

    def __init__(self, name, order):
        self.name = name
        self.order = order

    def retrieve(self, questions):
        by_id = {document.id: document for document in DOCUMENTS}
        segments = tuple(Segment(i, 0, len(by_id[i].text), by_id[i].text, 1.0) for i in self.order)
        scores = tuple(1.0 / n for n in range(1, len(self.order) + 1))
        return [
            Retrieved(q.id, tuple(self.order), scores, segments, answerable=q.id != "q3", latency_ms=2.0)
            for q in questions
        ]


@pytest.fixture
def warehouse(tmp_path):
    warehouse = Warehouse(tmp_path / "w.duckdb", timeout_s=5)
    warehouse.save_corpus("v1", CORPUS)
    constants = {"run_id": "e1", "corpus_version": "v1", "checkpoint_id": None}
    for name, order in (("good", ["town", "섬", "lake"]), ("bad", ["lake", "섬", "town"])):
        rows, _ = evidence_rows(WholeDocuments(name, order), QUESTIONS, (8, 64), **constants)
        warehouse.replace_rows("evidence", rows, {"run_id": "e1", "system": name})
    return warehouse


@pytest.fixture
def scores(warehouse):
    """Scores as the warehouse gives them back."""
    rows = score_rows(load_evidence(warehouse, "e1"), CORPUS, TARGETS, run_id="s1")
    warehouse.replace_rows("scores", rows, {"run_id": "s1", "reader": "none"})
    return warehouse.query("SELECT * FROM scores WHERE run_id = 's1' ORDER BY rowid")


def answers(**by_question):
    """Rows of the table `answers` at 64 tokens: a text, or an Exception for a failed question."""
    return pd.DataFrame(
        {
            "run_id": "a1",
            "corpus_version": "v1",
            "evidence_run_id": "e1",
            "system": system,
            "budget": 64,
            "question_id": question,
            "reader": "openai",
            "answer": "" if isinstance(answer, Exception) else answer,
            "cost_usd": 0.25,
            "error": str(answer) if isinstance(answer, Exception) else None,
        }
        for system in ("good", "bad")
        for question, answer in by_question.items()
    )


def test_one_system_is_asked_once_and_cut_to_every_budget():
    system = WholeDocuments("good", ["town", "섬", "lake"])
    rows, seconds = evidence_rows(system, QUESTIONS, (8, 64), run_id="r", corpus_version="v", checkpoint_id="c")
    assert [(row["question_id"], row["budget"]) for row in rows] == [(q.id, b) for q in QUESTIONS for b in (8, 64)]
    assert seconds > 0
    texts = {document.id: document.text for document in DOCUMENTS}
    for row in rows:
        assert (row["run_id"], row["corpus_version"], row["checkpoint_id"], row["system"]) == ("r", "v", "c", "good")
        assert row["evidence_tokens"] == evidence_tokens(row["evidence"]) <= row["budget"]
        pieces = zip(row["source_document_ids"], row["source_start"], row["source_end"], strict=True)
        assert "\n".join(texts[i][start:end] for i, start, end in pieces) == row["evidence"]
        assert row["answerable"] == (row["question_id"] != "q3")
    assert rows[0]["evidence"] == "Tarn was founded by Ilse Maar."
    assert rows[4]["evidence"] == rows[5]["evidence"] == ""
    assert rows[1]["source_document_ids"] == ["town", "섬", "lake"]


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({}, ["q1", "q2", "q4"]),
        ({"question_types": ("two_hop",)}, ["q4"]),
        ({"question_types": ("single",), "splits": ("test", "unanswerable")}, ["q1", "q2", "q3"]),
        ({"question_types": ("vague",)}, []),
    ],
)
def test_splits_and_question_types_say_what_is_evaluated(settings, asked):
    assert [question.id for question in evaluated_questions(CORPUS, EvaluationSettings(**settings))] == asked
    (first, *_) = [*evaluated_questions(CORPUS, EvaluationSettings(**settings, limit_questions=1)), None]
    assert first is None or first.id in asked


def test_a_system_shows_its_evidence_in_its_own_order():
    class Arranged(WholeDocuments):
        def arrange(self, evidence):
            segments = tuple(sorted(evidence.segments, key=lambda segment: segment.document_id))
            return Evidence("\n".join(segment.text for segment in segments), segments)

    order = ["town", "섬", "lake"]
    rows, _ = evidence_rows(Arranged("a", order), QUESTIONS[:1], (8, 64), run_id="r")
    assert [row["source_document_ids"] for row in rows] == [["town"], ["lake", "town", "섬"]], (
        "cut by rank, then arranged"
    )
    assert rows[1]["evidence"] == "\n".join(DOCUMENTS[i].text for i in (2, 0, 1))
    plain, _ = evidence_rows(WholeDocuments("a", order), QUESTIONS[:1], (8, 64), run_id="r")
    assert [row["evidence_tokens"] for row in plain] == [row["evidence_tokens"] for row in rows]


def test_scores_know_gold_documents_targets_and_what_is_not_defined(scores):
    rows = scores.set_index(["system", "budget", "question_id"])
    good = rows.loc[("good", 64, "q1")]
    measures = ["recall_at_1", "recall_at_10", "reciprocal_rank", "answer_coverage", "grounded"]
    assert good[measures].tolist() == [1, 1, 1, 1, 1]
    bad = rows.loc[("bad", 8, "q1")]
    assert bad[measures].tolist() == [0, 1, pytest.approx(1 / 3), 0, 1]
    assert rows.loc[("good", 8, "q1"), "rouge_l"] == 1.0
    assert rows.loc[("good", 64, "q2"), "answer_coverage"] == 1.0, "남쪽 바다 stands there with a particle"
    unanswerable = rows.loc[("good", 64, "q3")]
    assert unanswerable[["recall_at_1", "reciprocal_rank", "rouge_l", "answer_coverage", "em", "f1"]].isna().all()
    assert math.isnan(rows.loc[("good", 64, "q4"), "rouge_l"]), "it has no target"
    assert (rows.loc[("bad", 64, "q4"), ["recall_at_1", "recall_all_at_10"]] == [1, 1]).all()
    assert dict(zip(scores["question_id"], scores["cluster"], strict=True)) == {
        "q1": "town",
        "q2": "섬",
        "q3": "q3",
        "q4": "town",
    }
    assert set(scores["split"]) == {"test", "unanswerable"}
    assert set(scores["evidence_run_id"]) == {"e1"}
    assert set(scores["reader"]) == {"none"}


def test_answers_add_em_and_f1_and_failed_ones_stay_unscored(scores):
    given = answers(q1="Ilse Maar", q2="남쪽 바다", q3="I don't know", q4=RuntimeError("HTTP 500"))
    rows = answer_score_rows(scores[scores["budget"] == 64], given, CORPUS, run_id="a1")
    by_key = {(row["system"], row["question_id"]): row for row in rows}
    assert len(by_key) == len(rows) == 8
    assert [by_key["good", q]["em"] for q in ("q1", "q2", "q3", "q4")] == [1, 1, 1, None]
    assert by_key["good", "q4"]["f1"] is None
    assert {row["reader"] for row in rows} == {"openai"}
    assert {row["run_id"] for row in rows} == {"a1"}
    assert by_key["good", "q1"]["recall_at_1"] == 1
    assert by_key["bad", "q1"]["recall_at_1"] == 0
    unasked = answer_score_rows(scores[scores["budget"] == 64], answers(q2="북쪽"), CORPUS, run_id="a1")
    assert [(row["system"], row["question_id"], row["em"]) for row in unasked] == [("good", "q2", 0), ("bad", "q2", 0)]


def verdicts(**by_question):
    """Rows of the table `judgements` at 64 tokens, about the answers of both systems."""
    return pd.DataFrame(
        {
            "system": system,
            "budget": 64,
            "question_id": question,
            "reader": "openai",
            "verdict": verdict,
            "cost_usd": 0.5,
        }
        for system in ("good", "bad")
        for question, verdict in by_question.items()
    )


def test_the_judge_adds_the_share_it_found_correct_and_a_cost_of_its_own(warehouse, scores):
    evidence = load_evidence(warehouse, "e1")
    given = answers(q1="Ilse Maar", q2="남쪽", q3="I don't know", q4="Lake")
    found = verdicts(q1="correct", q2="incorrect", q4=None)
    at_64 = scores[scores["budget"] == 64]
    rows = answer_score_rows(at_64, given, CORPUS, run_id="a1", judgements=found)
    judged = {row["question_id"]: row["judged_correct"] for row in rows if row["system"] == "good"}
    assert judged == {"q1": 1.0, "q2": 0.0, "q3": None, "q4": None}, "no verdict is no wrong answer"
    frame = leaderboard_rows(pd.DataFrame(rows), evidence, SETTINGS, costs=given, judge_costs=found)
    total = frame[(frame["question_type"] == "all") & (frame["split"] == "test")].set_index("system").loc["good"]
    assert total["judged_correct"] == 0.5
    assert 0.0 <= total["judged_correct_low"] <= 0.5 <= total["judged_correct_high"] <= 1.0
    assert (total["cost_usd"], total["judge_cost_usd"]) == (0.75, 1.5)
    metrics, curves = system_metrics(frame, "good")
    assert (metrics["judged_correct_64"], metrics["judge_cost_usd"]) == (0.5, 1.5)
    assert metrics["interval/judged_correct_64_low"] == total["judged_correct_low"]
    assert curves[64]["judged_correct"] == 0.5
    assert "judged correct" in leaderboard_markdown(frame)
    skipped = verdicts(q1="not_attempted")
    rows = answer_score_rows(at_64, given, CORPUS, run_id="a1", judgements=skipped)
    assert next(row for row in rows if row["question_id"] == "q1")["judged_correct"] == 0.0


def test_without_a_judge_its_columns_are_empty(warehouse, scores):
    evidence, given = load_evidence(warehouse, "e1"), answers(q1="Ilse Maar", q2="남쪽")
    rows = pd.DataFrame(answer_score_rows(scores[scores["budget"] == 64], given, CORPUS, run_id="a1"))
    frame = leaderboard_rows(rows, evidence, SETTINGS, costs=given)
    assert frame[["judged_correct", "judged_correct_low", "judge_cost_usd"]].isna().all(axis=None)
    single, curves = system_metrics(frame, "good")
    assert not any("judge" in name for name in (*single, *curves[64]))
    assert "judge" not in leaderboard_markdown(frame)


def test_leaderboard_rows_join_tokens_latency_and_cost(warehouse, scores):
    evidence = load_evidence(warehouse, "e1")
    frame = leaderboard_rows(scores, evidence, SETTINGS)
    total = frame[(frame["question_type"] == "all") & (frame["split"] == "test")].set_index(["system", "budget"])
    assert len(total) == 4
    assert (total["n_questions"] == 3).all()
    assert total.loc[("good", 64), "recall_at_1"] == pytest.approx(2 / 3)
    assert total.loc[("good", 64), "answer_coverage"] == 1.0
    used = evidence[(evidence["system"] == "good") & (evidence["budget"] == 8) & (evidence["question_id"] != "q3")]
    assert total.loc[("good", 8), "evidence_tokens"] == pytest.approx(used["evidence_tokens"].mean())
    assert (total["latency_p50_ms"] == 2.0).all()
    assert total["cost_usd"].isna().all()
    assert set(frame["question_type"]) == {"all", "single", "two_hop"}

    given = answers(q1="Ilse Maar", q2="남쪽", q4="Lake")
    rows = pd.DataFrame(answer_score_rows(scores[scores["budget"] == 64], given, CORPUS, run_id="a1"))
    paid = leaderboard_rows(rows, evidence, SETTINGS, costs=given)
    paid = paid[paid["question_type"] == "all"].set_index("system")
    assert paid["cost_usd"].to_dict() == {"good": 0.75, "bad": 0.75}
    assert paid.loc["good", "em"] == pytest.approx(2 / 3)


def test_metrics_have_the_same_names_for_every_system(warehouse, scores):
    frame = leaderboard_rows(scores, load_evidence(warehouse, "e1"), SETTINGS)
    (good, curves), (bad, other_curves) = (system_metrics(frame, name) for name in ("good", "bad"))
    assert set(good) == set(bad)
    assert good["answer_coverage_64"] == 1.0
    assert {"recall_at_1", "two_hop/answer_coverage_8", "unanswerable/evidence_tokens_64"} <= set(good)
    assert {"interval/rouge_l_8_low", "interval/answer_coverage_64_high"} <= set(good)
    assert not any(name.startswith(("em", "f1")) for name in good), "nothing was answered"
    assert good["recall_at_1"] == pytest.approx(2 / 3)
    assert bad["recall_at_1"] == pytest.approx(1 / 3)
    assert set(curves) == set(other_curves) == {8, 64}
    for budget in (8, 64):
        assert {name for name in curves[budget] if "/" not in name} == {
            "answer_coverage",
            "rouge_l",
            "evidence_tokens",
        }
        for name in ("answer_coverage", "rouge_l", "evidence_tokens", "unanswerable/evidence_tokens"):
            assert curves[budget][name] == good[f"{name}_{budget}"]


def test_answers_at_several_budgets_are_scored_each_and_their_costs_add_up(warehouse, scores):
    given = pd.concat([answers(q1="Ilse Maar"), answers(q1="Nobody").assign(budget=8)])
    rows = pd.DataFrame(answer_score_rows(scores, given, CORPUS, run_id="a1"))
    em = rows.set_index(["system", "budget"])["em"]
    assert em.to_dict() == {("good", 8): 0, ("bad", 8): 0, ("good", 64): 1, ("bad", 64): 1}
    frame = leaderboard_rows(rows, load_evidence(warehouse, "e1"), SETTINGS, costs=given)
    single, curves = system_metrics(frame, "good")
    assert (single["em_8"], single["em_64"], single["cost_usd"]) == (0, 1, 0.5)
    assert {budget: figures["em"] for budget, figures in curves.items()} == {8: 0, 64: 1}


def test_a_verdict_speaks_for_the_answer_at_its_own_budget_alone(warehouse, scores):
    given = pd.concat([answers(q1="Ilse Maar", q2="남쪽"), answers(q1="Nobody", q2="북쪽").assign(budget=8)])
    found = verdicts(q1="correct", q2="incorrect")
    rows = pd.DataFrame(answer_score_rows(scores, given, CORPUS, run_id="a1", judgements=found))
    judged = rows[rows["system"] == "good"].set_index(["budget", "question_id"])["judged_correct"]
    assert judged[64].to_dict() == {"q1": 1.0, "q2": 0.0}
    assert judged[8].isna().all()
    evidence = load_evidence(warehouse, "e1")
    frame = leaderboard_rows(rows, evidence, SETTINGS, costs=given, judge_costs=found)
    total = frame[frame["question_type"] == "all"].set_index(["system", "budget"])
    assert total["judge_cost_usd"].fillna(0).to_dict() == {
        ("good", 8): 0,
        ("bad", 8): 0,
        ("good", 64): 1.0,
        ("bad", 64): 1.0,
    }
    single, curves = system_metrics(frame, "good")
    assert (single["judge_cost_usd"], single["cost_usd"]) == (1.0, 1.0)
    assert {budget: "judged_correct" in figures for budget, figures in curves.items()} == {8: False, 64: True}


def test_scores_of_other_evidence_than_the_answers_are_refused(warehouse, scores):
    settings = load_settings({"evaluation": {"bootstrap_samples": 50, "budgets": [8, 64]}, "answers": {"budget": 64}})
    first, second = (EvidenceHandle("v1", "q1", run_id, {}, {}) for run_id in ("e1", "e2"))
    given = AnswersHandle(first, "a1", "openai", "gpt-4o")
    warehouse.replace_rows("answers", answers(q1="Ilse Maar").to_dict("records"), {"run_id": "a1"})
    rows, frame = score_answers(settings, warehouse, given, ScoresHandle(first, "s1"), "a1")
    assert rows["em"].tolist() == [1, 1]
    assert set(frame["reader"]) == {"openai"}
    with pytest.raises(WarehouseError, match="other evidence than the scored one -> materialise evidence_scores"):
        score_answers(settings, warehouse, given, ScoresHandle(second, "s1"), "a1")


def test_the_warehouse_leaderboard_holds_every_measure(warehouse, scores):
    frame = leaderboard_rows(scores, load_evidence(warehouse, "e1"), SETTINGS)
    store_leaderboard(warehouse, frame, run_id="s1", readers=["none"])
    for view in ("leaderboard", "leaderboard_all"):
        stored = warehouse.query(f"SELECT * FROM {view} WHERE split = 'test' AND budget = 64")
        total = stored[stored["question_type"] == "all"].set_index("system")
        mine = scores[(scores["split"] == "test") & (scores["budget"] == 64)].groupby("system")
        for measure in ("recall_all_at_10", "grounded"):
            assert total[measure].to_dict() == pytest.approx(mine[measure].mean().to_dict())
        two_hop = stored[stored["question_type"] == "two_hop"]
        assert set(two_hop["notes"]) == {"intervals need at least two documents"}
