"""From questions to the leaderboard: scores, aggregates, tables and plots."""

import io
import time

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from zrag_core.corpus.types import Question
from zrag_core.evaluation.bootstrap import bootstrap_interval
from zrag_core.evaluation.leaderboard import KEYS, aggregate, leaderboard_columns
from zrag_core.evaluation.leaderboard_report import leaderboard_markdown, leaderboard_sections, leaderboard_text
from zrag_core.evaluation.metrics import METRICS, Outcome, score
from zrag_core.evaluation.plots import leaderboard_plots

SYSTEMS = ("zrag_joint", "zrag_joint_free", "bm25", "bm25_sentence", "dense", "hybrid", "closed_book", "gold_evidence")
MEASURES = [metric.name for metric in METRICS.values() if metric.of != "answer"]


def rows(systems=SYSTEMS, budgets=(64, 128, 256, 512), n=40, split="test", version="a1b2c3", answered=256, seed=0):
    """Scores per question of a made-up run, in which larger budgets cover more."""
    generator = np.random.default_rng(seed)
    table = []
    for rank, system in enumerate(systems):
        for budget in budgets:
            for i in range(n):
                chance = min(0.95, 0.2 + 0.1 * np.log2(budget / 64) + 0.05 * rank)
                table.append(
                    {
                        "corpus_version": version,
                        "split": split,
                        "question_type": "two_hop" if i % 4 == 0 else "single",
                        "system": system,
                        "reader": "offline" if budget == answered else None,
                        "budget": budget,
                        "question_id": f"q{i}",
                        "cluster": f"d{i // 3}",
                        **{measure: float(generator.random() < chance) for measure in MEASURES},
                        "evidence_tokens": budget - 3,
                        "latency_ms": float(i),
                        "em": float(i % 2) if budget == answered else None,
                        "f1": i / n if budget == answered else None,
                        "cost_usd": 0.001 if budget == answered else None,
                    }
                )
    return pd.DataFrame(table)


QUESTION = Question("q", "Who founded Tarn?", ("Ilse Maar",), ("town", "lake"))


def scored(question=QUESTION, **outcome):
    return score(Outcome(question, **outcome), "ranking", "evidence")


def test_scores_of_one_question():
    ranked = ("x", "town", "y")
    documents = {"x": "Nothing.", "town": "Tarn was founded by Ilse Maar.", "y": "More.", "lake": "Deep."}
    evidence = "Tarn was founded by Ilse Maar. So I say."
    assert scored(document_ids=ranked, evidence=evidence)["grounded"] is None
    scores = scored(document_ids=ranked, evidence=evidence, target="founded by Ilse Maar", documents=documents)
    assert scores == {
        "recall_at_1": 0.0,
        "recall_at_5": 1.0,
        "recall_at_10": 1.0,
        "recall_all_at_10": 0.0,
        "reciprocal_rank": 0.5,
        "rouge_l": pytest.approx(2 * 4 / (9 + 4)),
        "answer_coverage": 1.0,
        "grounded": 0.5,
    }
    # Only documents that the system named can ground its evidence.
    assert scored(document_ids=ranked, evidence="Deep.", documents=documents)["grounded"] == 0.0


def test_an_unanswerable_question_has_no_scores():
    scores = scored(Question("q", "?"), document_ids=("x",), documents={"x": "text"})
    assert set(scores.values()) == {None}


def test_aggregates_are_means_sums_and_percentiles():
    frame = rows()
    board = aggregate(frame, samples=200, seed=5)
    assert tuple(board.columns) == leaderboard_columns()
    assert not board.duplicated(list(KEYS)).any()
    assert set(board["question_type"]) == {"all", "single", "two_hop"}
    assert len(board) == 3 * len(SYSTEMS) * 4
    for _, line in board.iterrows():
        mask = (frame["system"] == line["system"]) & (frame["budget"] == line["budget"])
        if line["question_type"] != "all":
            mask &= frame["question_type"] == line["question_type"]
        group = frame[mask]
        assert line["n_questions"] == len(group)
        assert line["mrr"] == pytest.approx(group["reciprocal_rank"].mean())
        assert line["answer_coverage"] == pytest.approx(group["answer_coverage"].mean())
        assert line["recall_all_at_10"] == pytest.approx(group["recall_all_at_10"].mean())
        assert line["grounded"] == pytest.approx(group["grounded"].mean())
        assert line["evidence_tokens"] == line["budget"] - 3
        assert line["latency_p95_ms"] == pytest.approx(np.percentile(group["latency_ms"], 95))
        low, high = bootstrap_interval(group["rouge_l"], group["cluster"], samples=200, seed=5)
        assert (line["rouge_l_low"], line["rouge_l_high"]) == pytest.approx((low, high))
        if line["budget"] == 256:
            assert line["cost_usd"] == pytest.approx(0.001 * len(group))
            assert line["f1_low"] < line["f1"] < line["f1_high"]
        else:
            assert np.isnan([line["f1"], line["em_low"], line["cost_usd"]]).all()


def test_undefined_scores_are_left_out_of_the_means():
    frame = rows(systems=("bm25",), budgets=(64,), n=10).astype({"answer_coverage": object})
    frame["answer_coverage"] = [None] * 8 + [1.0, 0.0]
    frame["question_type"] = "single"
    board = aggregate(frame, samples=50)
    assert board["answer_coverage"].tolist() == [0.5, 0.5]
    assert board["n_questions"].tolist() == [10, 10]


def test_notes_say_what_one_has_to_know_to_read_a_row():
    frame = pd.concat([rows(("bm25",), (64, 256)), rows(("bm25",), (64, 256), n=3, split="dev")])
    notes = aggregate(frame, samples=20).set_index(["split", "question_type", "budget"])["notes"]
    assert pd.isna(notes["test", "all", 64])
    assert notes["test", "all", 256] == "offline reader: extractive stand-in"
    assert notes["dev", "all", 64] == "intervals need at least two documents"
    assert notes["dev", "single", 256] == "offline reader: extractive stand-in; intervals need at least two documents"
    openai = aggregate(frame.assign(reader="openai"), samples=20)
    assert set(openai["notes"].dropna()) == {"intervals need at least two documents"}
    assert (openai["recall_at_1_low"].isna() == openai["notes"].notna()).all()


def test_two_hop_questions_are_measured_by_both_documents():
    frame = rows(systems=("bm25",), budgets=(64,)).assign(recall_all_at_10=0.375)
    single, two_hop = leaderboard_markdown(aggregate(frame, samples=10)).split("### test, two_hop")
    assert "both @10" not in single
    assert "| both @10 | MRR |" in two_hop
    assert "| 37.5 |" in two_hop
    assert len({line.count("|") for line in two_hop.split("**Answer coverage")[0].splitlines() if "|" in line}) == 1
    only = leaderboard_markdown(aggregate(frame.assign(question_type="two_hop"), samples=10))
    assert "| 37.5 |" in only
    assert "both @10" not in leaderboard_markdown(aggregate(frame.assign(question_type="single"), samples=10))


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="columns are missing: cluster, latency_ms"):
        aggregate(rows().drop(columns=["cluster", "latency_ms"]))
    frame = rows(systems=("bm25",), n=3)
    with pytest.raises(ValueError, match="stands twice"):
        aggregate(pd.concat([frame, frame.head(1)]))


def test_no_rows_make_an_empty_leaderboard():
    board = aggregate(rows().head(0))
    assert tuple(board.columns) == leaderboard_columns()
    assert board.empty
    assert leaderboard_text(board) == leaderboard_markdown(board) == "No question was evaluated.\n"


def test_ten_systems_take_seconds():
    frame = rows(systems=[f"system_{i}" for i in range(10)], n=300)
    started = time.process_time()
    aggregate(frame, samples=1000)
    assert time.process_time() - started < 8


def test_markdown_shows_percent_with_intervals_and_names_the_stand_in():
    board = aggregate(rows(), samples=100)
    line = board[(board["system"] == "bm25") & (board["budget"] == 64) & (board["question_type"] == "all")].iloc[0]
    cell = f"{100 * line.recall_at_1:.1f} ({100 * line.recall_at_1_low:.1f}-{100 * line.recall_at_1_high:.1f})"
    text = leaderboard_markdown(board, systems=["gold_evidence", "bm25"])
    assert f"| `bm25` | {cell} |" in text
    assert "offline (extractive stand-in)" in text
    assert "### test, 40 questions" in text
    assert "### test, two_hop, 10 questions" in text
    assert "0.0400" in text  # what the answers cost
    named = [row.split("`")[1] for row in text.split("**Retrieval**")[1].splitlines() if row.startswith("| `")]
    rest = [system for system in SYSTEMS if system not in ("gold_evidence", "bm25")]
    assert named[: len(SYSTEMS)] == ["gold_evidence", "bm25", *rest]
    widths = {len(row.split("|")) for row in text.splitlines() if row.startswith("| `bm25`")}
    assert widths <= {len(row.split("|")) for row in text.splitlines() if row.startswith("| system")}


def test_one_question_type_is_shown_once():
    frame = rows()
    frame["question_type"] = "single"
    assert leaderboard_markdown(aggregate(frame, samples=10)).count("###") == 1


def test_each_split_and_corpus_has_its_section():
    frame = pd.concat([rows(n=6), rows(n=6, split="train"), rows(n=6, version="other")])
    titles = [(s.corpus_version, s.split, s.question_type) for s in leaderboard_sections(aggregate(frame, samples=10))]
    assert [t[:2] for t in titles if t[2] == "all"] == [("a1b2c3", "test"), ("a1b2c3", "train"), ("other", "test")]


@pytest.mark.parametrize(
    "budgets", [(256,), (64, 256), (64, 128, 256), (64, 128, 256, 512), (16, 32, 64, 128, 256, 512)]
)
@pytest.mark.parametrize("readers", [("offline",), ("offline", "openai")])
def test_text_fits_a_terminal_and_is_aligned(budgets, readers):
    frame = rows(systems=(*SYSTEMS, "zrag_full_prefix"), budgets=budgets, n=8)
    more = [frame[frame["budget"] == 256].assign(reader=reader) for reader in readers[1:]]
    text = leaderboard_text(aggregate(pd.concat([frame, *more]), samples=20), systems=SYSTEMS)
    assert max(len(line) for line in text.splitlines()) <= 110
    table = text.split("\n\n")[0].splitlines()
    body = [line for line in table if line.startswith(("zrag", "bm25", "dense", "hybrid", "closed", "gold"))]
    assert len(body) == 9
    assert len({len(line) for line in body}) == 1
    header = next(line for line in table if line.startswith("system"))
    assert len(header) == len(body[0])
    assert all(len(line.split()) == len(header.split()) for line in body)
    assert str(budgets[0]) in header.split()
    assert str(budgets[-1]) in header.split()


def test_text_says_what_the_numbers_are():
    text = leaderboard_text(aggregate(rows(), samples=50), confidence=0.9)
    assert "offline: offline (extractive stand-in)" in text
    assert "EM and F1 at 256 evidence tokens" in text
    assert "90% intervals: up to +/-" in text


def test_answers_at_several_budgets():
    """The table shows those at the wanted budget, or at the largest."""
    frame = pd.concat([rows(("bm25", "dense"), answered=budget) for budget in (64, 256)])
    frame = frame[frame["reader"].notna()]
    frame["f1"] = frame["budget"] / 512
    board = aggregate(frame, samples=20)
    for wanted, budget, f1 in ((64, 64, "12.5"), (None, 256, "50.0"), (512, 256, "50.0")):
        text = leaderboard_text(board, answer_budget=wanted)
        assert f"EM and F1 at {budget} evidence tokens" in text
        assert next(line for line in text.splitlines() if line.startswith("dense")).split()[-2] == f1


def test_a_leaderboard_without_answers():
    board = aggregate(rows(answered=None), samples=20)
    assert "**Answers**" not in leaderboard_markdown(board)
    assert "F1" not in leaderboard_text(board)
    assert set(leaderboard_plots(board, "test")) == {"coverage_curve.png", "recall.png", "question_types.png"}


def test_the_fullest_row_speaks_for_a_system():
    """A reader that answered some of the questions does not change the recall that is shown."""
    frame = rows(systems=("bm25",), budgets=(64,), n=30, answered=None)
    part = frame.head(4).assign(reader="openai", f1=1.0, recall_at_1=1.0)
    board = aggregate(pd.concat([part, frame]), samples=20)
    section = next(iter(leaderboard_sections(board)))
    assert section.by_system["n_questions"].tolist() == [30]
    assert section.answered["n_questions"].tolist() == [4]


def test_plots_are_images_of_their_values():
    board = aggregate(rows(), samples=50)
    before = dict(mpl.rcParams)
    plots = leaderboard_plots(board, "test", systems=SYSTEMS)
    assert dict(mpl.rcParams) == before
    names = {"coverage_curve.png", "recall.png", "answers.png", "f1_curve.png", "question_types.png"}
    assert set(plots) == names, "nothing was paid, so that nothing is drawn against dollars"
    for content in plots.values():
        image = Image.open(io.BytesIO(content)).convert("RGB")
        assert image.width > 1000
        assert len(image.getcolors(1 << 20)) > 50
    changed = board.assign(answer_coverage=board["answer_coverage"] * 0.5)
    other = leaderboard_plots(changed, "test", systems=SYSTEMS)
    assert other["coverage_curve.png"] != plots["coverage_curve.png"]
    assert other["recall.png"] == plots["recall.png"]


def test_plots_of_small_leaderboards():
    """One system, one budget, one document: no interval, still a picture."""
    frame = rows(systems=("한국어",), budgets=(256,), n=2).assign(system="bm25", cluster="d")
    assert len(leaderboard_plots(aggregate(frame, samples=5), "test")) == 5


def test_plots_of_the_wrong_split():
    board = aggregate(pd.concat([rows(n=4), rows(n=4, version="other")]), samples=5)
    with pytest.raises(ValueError, match="'dev' stands in the leaderboard 0 times"):
        leaderboard_plots(board, "dev")
    with pytest.raises(ValueError, match="2 times"):
        leaderboard_plots(board, "test")
