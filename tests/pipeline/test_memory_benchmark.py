"""The job `benchmark_memory`: fresh almanacs, written and questioned with one skill."""

import shutil

import pandas as pd
import pytest
from pipeline_runs import config, execute

from zrag_core.answer_matching import answer_coverage
from zrag_core.corpus.almanac import generate_almanac
from zrag_core.evidence import Retrieved, Segment
from zrag_core.settings import load_settings
from zrag_pipeline.defs.benchmarks import memory_quality as memory_benchmark
from zrag_pipeline.defs.benchmarks.measurement import seed_rows, summary
from zrag_pipeline.platform.warehouse import Warehouse

SEEDS = [5, 6]


@pytest.fixture(scope="module")
def measured(trained_skill, tmp_path_factory):
    """The table `benchmarks` after a run over two seeds of a small almanac."""
    data = tmp_path_factory.mktemp("benchmark") / "data"
    shutil.copytree(trained_skill.data / "skills", data / "skills")  # found again: nothing is trained here
    benchmark = {"seeds": SEEDS, "languages": ["en"], "documents": [12], "questions": 6}
    result = execute("benchmark_memory", data, run_config=config(benchmark=benchmark, writing={"steps": 0}))
    rows = Warehouse(data / "warehouse.duckdb").query("SELECT * FROM benchmarks WHERE benchmark = 'memory'")
    return result, rows


def test_every_seed_and_system_has_its_figures(measured):
    result, rows = measured
    assert result.success
    assert set(rows["run_id"]) == {result.run_id}
    assert set(rows["n_documents"]) == {12}
    for seed in SEEDS:
        own = rows[rows["metric"].str.startswith(f"en/{seed}/")]
        names = set(own["system"] + " " + own["metric"].str.removeprefix(f"en/{seed}/"))
        assert {
            "zrag single/recall_at_1",
            "zrag single/coverage_at_64",
            "zrag auroc",
            "zrag two_hop/recall_all_at_10",
            "zrag_free single/coverage_at_64",
            "bm25_sentence single/coverage_at_64",
            "memory document_top1",
            "memory z_shuffle_coverage",
            "memory encoded_per_s",
        } <= names
    shares = rows[rows["unit"] == "share"]["value"]
    assert shares.between(0, 1).all()
    assert set(rows[rows["metric"].str.endswith("encoded_per_s")]["unit"]) == {"documents/s"}


def test_summary_gives_the_mean_and_both_ends_over_seeds():
    keys = {"language": "ko", "n_documents": 64, "system": "zrag", "metric": "auroc"}
    frame = pd.DataFrame([{**keys, "seed": seed, "value": value} for seed, value in ((1, 0.5), (2, 0.9), (3, 0.7))])
    (row,) = summary(frame).to_dict("records")
    assert (row["mean"], row["lowest"], row["highest"], row["seeds"]) == (pytest.approx(0.7), 0.5, 0.9, 3)
    assert len(seed_rows(frame)) == 3, "the table keeps every seed"


def test_quality_counts_answers_in_what_fits_the_budget():
    corpus = generate_almanac(12, "en", seed=5)
    question = next(q for q in corpus.questions if q.split == "test" and q.question_type == "single")
    gold = next(d for d in corpus.documents if d.id in question.document_ids)
    wrong = "Nothing of this kind is known to anybody in the whole region. " * 5
    late = Retrieved(
        question.id,
        document_ids=(gold.id,),
        document_scores=(0.0,),
        segments=(
            Segment(gold.id, 0, len(wrong), wrong, 1.0),
            Segment(gold.id, 0, len(question.evidence), question.evidence, 0.5),
        ),
    )
    assert answer_coverage(question.evidence, question.golden_answers, "en") == 1.0
    settings = load_settings({"evaluation": {"budgets": [64, 256]}, "answers": {"budget": 64}})
    found = dict(memory_benchmark._quality(settings, [question], [late]))
    assert found == {"recall_at_1": 1.0, "recall_all_at_10": 1.0, "coverage_at_64": 0.0, "coverage_at_256": 1.0}
