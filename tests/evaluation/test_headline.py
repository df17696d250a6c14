"""Which systems are compared on what, and how it is told."""

import numpy as np
import pandas as pd
import pytest

from zrag_core.evaluation.comparison import compare, holm
from zrag_core.evaluation.comparison_report import comparisons_markdown, comparisons_text
from zrag_core.evaluation.headline import COLUMNS, headline_comparisons, references

CHANCES = {"zrag": 0.9, "bm25": 0.45, "bm25_sentence": 0.6, "dense": 0.58, "gold_evidence": 1.0}
KEY = ["split", "question_type", "budget", "reader", "measure"]
BUDGETS = (64, 128, 256, 512)


def scores(chances=CHANCES, *, reader="none", budgets=BUDGETS, n=90, split="test", seed=0):
    """Rows of the table `scores`: three questions a document, every third of them over two documents."""
    generator = np.random.default_rng(seed)
    table = []
    for system, chance in chances.items():
        draws = generator.random((n, 4)) < chance
        for budget in budgets:
            for i in range(n):
                row = {
                    "corpus_version": "c0ffee",
                    "split": split,
                    "question_type": "two_hop" if i % 3 == 0 else "single",
                    "system": system,
                    "budget": budget,
                    "reader": reader,
                    "question_id": f"질문{i}",
                    "cluster": f"d{i // 3}",
                    "recall_at_1": float(draws[i, 0]),
                    "recall_at_10": 1.0,
                    "answer_coverage": float(draws[i, 1] or budget > 256),
                }
                answered = reader != "none"
                table.append(row | {"em": float(draws[i, 2]) if answered else None, "f1": 0.5 if answered else None})
    return pd.DataFrame(table)


def compared(frame, **options):
    return headline_comparisons(frame, **{"references": ("bm25_sentence", "zrag"), "answer_budget": 256} | options)


@pytest.mark.parametrize(
    ("systems", "chosen", "expected"),
    [
        (["zrag", "bm25", "bm25_sentence"], None, ("bm25_sentence", "zrag")),
        (["zrag_free", "dense", "bm25"], None, ("dense",)),
        (["bm25", "zrag", "dense"], "dense", ("dense", "zrag")),
        (["bm25", "zrag"], "zrag", ("zrag",)),
        (["zrag", "closed_book"], None, ("zrag",)),
        (["gold_evidence", "zrag_joint"], None, ("gold_evidence",)),
    ],
)
def test_references(systems, chosen, expected):
    assert references(systems, chosen) == expected


def test_every_system_meets_both_references_in_every_family():
    found = compared(pd.concat([scores(), scores(reader="offline", budgets=(256,))]))
    assert tuple(found.columns) == COLUMNS
    families = {(256, "none", "recall_at_1"), (256, "none", "recall_at_10"), (64, "none", "answer_coverage")}
    families |= {(256, "none", "answer_coverage"), (256, "offline", "f1"), (256, "offline", "em")}
    expected = {("test", kind, *family) for kind in ("all", "single", "two_hop") for family in families}
    assert set(found[KEY].itertuples(index=False, name=None)) == expected
    for _, family in found.groupby(KEY):
        pairs = list(zip(family["system"], family["reference"], strict=True))
        assert sorted(pairs) == sorted((s, r) for r in ("bm25_sentence", "zrag") for s in CHANCES if s != r)
    sizes = found[found["measure"] == "f1"].groupby("question_type")["n_questions"].unique()
    assert {kind: list(own) for kind, own in sizes.items()} == {"all": [90], "single": [60], "two_hop": [30]}
    assert found["reference"].iloc[0] == "bm25_sentence", "the main reference comes first"


def test_verdicts_of_a_judge_are_compared_where_there_are_any():
    answered = scores(reader="offline", budgets=(256,))
    assert "judged_correct" not in set(compared(answered.assign(judged_correct=None))["measure"])
    found = compared(answered.assign(judged_correct=answered["em"]))
    rows = {measure: own.drop(columns="measure") for measure, own in found.groupby("measure")}
    assert set(rows) == {"f1", "em", "judged_correct"}
    pd.testing.assert_frame_equal(*(rows[name].reset_index(drop=True) for name in ("em", "judged_correct")))
    assert rows["judged_correct"]["mcnemar_p"].notna().all(), "a verdict is a yes/no measure"
    assert "judged correct at 256, offline" in comparisons_markdown(found)


def test_rows_are_the_comparisons_in_shares():
    frame = scores()
    found = compared(frame, seed=3, confidence=0.9)
    at = frame[frame["budget"] == 64]
    values = {s: dict(zip(g["question_id"], g["answer_coverage"], strict=True)) for s, g in at.groupby("system")}
    clusters = dict(zip(at["question_id"], at["cluster"], strict=True))
    pairs = compare(
        values, clusters, measure="answer_coverage", references=["bm25_sentence", "zrag"], confidence=0.9, seed=3
    )
    rows = found[(found["measure"] == "answer_coverage") & (found["budget"] == 64) & (found["question_type"] == "all")]
    rows = rows.set_index(["system", "reference"])
    assert len(rows) == len(pairs) + 1
    for pair in pairs:
        row = rows.loc[(pair.system, pair.other)]
        means = frame[frame["budget"] == 64].groupby("system")["answer_coverage"].mean()
        assert row["difference"] == pytest.approx(means[pair.system] - means[pair.other])
        assert (row["low"], row["high"]) == pytest.approx((pair.low / 100, pair.high / 100))
        assert (row["p_value"], row["p_adjusted"], row["mcnemar_p"]) == (pair.p, pair.p_holm, pair.p_mcnemar)
        assert (row["n_questions"], row["n_documents"], row["confidence"]) == (90, 30, 0.9)
        assert row["verdict"] == pair.verdict()
    there, back = rows.loc[("zrag", "bm25_sentence")], rows.loc[("bm25_sentence", "zrag")]
    assert there["verdict"].startswith("zrag above bm25_sentence by ")
    assert back["verdict"].startswith("bm25_sentence below zrag by ")
    assert (back["difference"], back["p_adjusted"]) == (-there["difference"], there["p_adjusted"])
    tested = rows.drop(index=("bm25_sentence", "zrag"))  # a pair of both references is tested once
    assert sorted(tested["p_adjusted"]) == sorted(holm(tested["p_value"].tolist()))


def test_only_held_out_questions_are_compared():
    assert compared(scores(split="train")).empty
    assert set(compared(pd.concat([scores(), scores(split="new_documents")]))["split"]) == {"test", "new_documents"}
    assert tuple(compared(scores().head(0)).columns) == COLUMNS


def test_what_was_not_measured_is_left_out_and_counted():
    frame = scores(reader="openai", budgets=(256,))
    frame.loc[frame["system"] == "dense", ["f1", "em"]] = None
    gap = (frame["system"] == "bm25") & (frame["question_id"] == "질문4")
    frame.loc[gap, ["f1", "em"]] = None
    found = compared(frame)
    found = found[(found["question_type"] == "all") & (found["measure"] == "em")].set_index(["system", "reference"])
    assert set(found.index.get_level_values("system")) == set(CHANCES) - {"dense"}
    row = found.loc[("bm25", "zrag")]
    assert (row["n_questions"], row["n_left_out"]) == (89, 1)
    assert row["verdict"].endswith("1 question left out")
    # The reference itself failed throughout: the other one is left.
    frame.loc[frame["system"] == "bm25_sentence", ["f1", "em"]] = None
    assert set(compared(frame)["reference"]) == {"zrag"}
    frame.loc[frame["system"] == "zrag", ["f1", "em"]] = None
    assert compared(frame).empty


def test_the_smallest_budget_may_be_the_answered_one():
    found = compared(scores(budgets=(64,)), answer_budget=64)
    assert not found.duplicated([*KEY, "system", "reference"]).any()
    assert set(found["budget"]) == {64}


# Words


def test_markdown_tells_what_is_shown():
    frame = compared(pd.concat([scores(), scores(reader="offline", budgets=(256,))]))
    text = comparisons_markdown(frame, systems=["zrag", "dense"])
    titles = [line for line in text.splitlines() if line.startswith("###")]
    assert titles == [
        f"### Against `{reference}`: {title}"
        for title in ("test, 90 questions", "test, single, 60 questions", "test, two_hop, 30 questions")
        for reference in ("bm25_sentence", "zrag")
    ]
    first = text.split("###")[1]
    header = (
        "| system | recall@1 | recall@10 | coverage at 64 | coverage at 256 | F1 at 256, offline | EM at 256, offline |"
    )
    assert header in first
    names = [line.split("`")[1] for line in first.splitlines() if line.startswith("| `")]
    assert names == ["zrag", "dense", "bm25", "gold_evidence"]
    row = frame[(frame["measure"] == "answer_coverage") & (frame["budget"] == 64) & (frame["question_type"] == "all")]
    row = row.set_index(["system", "reference"])
    above, same = row.loc[("zrag", "bm25_sentence")], row.loc[("dense", "bm25_sentence")]
    points, low, high = (100 * above[name] for name in ("difference", "low", "high"))
    assert f"**above** by {points:.1f} ({low:.1f} to {high:.1f}) |" in first
    points, low, high = (100 * same[name] for name in ("difference", "low", "high"))
    assert f"| no difference shown, {points:z.1f} ({low:z.1f} to {high:z.1f}) |" in first
    assert f"- coverage at 64: {above['verdict']}" in first
    second = text.split("###")[2]
    back = row.loc[("bm25", "zrag")]
    assert (
        f"**below** by {-100 * back['difference']:.1f} ({-100 * back['high']:.1f} to {-100 * back['low']:.1f})"
        in second
    )


def test_text_is_one_short_block_against_the_main_reference():
    frame = compared(pd.concat([scores(), scores(reader="offline", budgets=(256,))]))
    text = comparisons_text(frame, systems=list(CHANCES))
    lines = text.splitlines()
    assert lines[0].startswith("Against bm25_sentence: test, 90 questions")
    assert lines[1].split() == ["system", "recall@1", "coverage", "at", "256", "F1", "at", "256,", "offline"]
    assert [line.split()[0] for line in lines[3:-1]] == ["zrag", "bm25", "dense"], "no floor and ceiling"
    assert "above +" in lines[3]
    assert "= +0.0 (0.0 to 0.0)" in lines[3], "F1 is the same everywhere"
    assert max(map(len, lines)) <= 110
    two = comparisons_text(pd.concat([frame, frame.assign(split="new_documents")]))
    assert two.count("Against") == 2


def test_a_lone_question_type_is_told_once():
    frame = compared(scores().assign(question_type="single"))
    assert comparisons_markdown(frame).count("###") == 2


def test_one_document_has_no_interval():
    frame = compared(scores(n=3).assign(cluster="d"))
    assert "(nan" not in comparisons_markdown(frame) + comparisons_text(frame)
    assert "no difference shown" in comparisons_markdown(frame)


def test_nothing_compared():
    empty = compared(scores().head(0))
    assert comparisons_markdown(empty) == "There was nothing to compare.\n"
    assert comparisons_text(empty) == ""
