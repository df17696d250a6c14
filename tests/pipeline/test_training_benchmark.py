"""Training against the naive recipe: figures of both, from processes of their own, and their ratios."""

import pytest

from zrag_core.errors import ZragError
from zrag_core.settings import load_settings
from zrag_pipeline.defs.benchmarks.training_cost import measure_training

JOINT = {"steps": 2, "batch_size": 4, "self_study": 0.0, "reconstruction_weight": 0.0, "width": 16}


def _settings(**benchmark):
    tiny = {"hidden_size": 32, "layers": 1, "vocabulary": 300}
    backbone = {"name": "zrag-tiny", "threads": 1, "device": "cpu", "tiny": tiny}
    return load_settings({"backbone": backbone, "joint": JOINT, "benchmark": {"seeds": [5], **benchmark}})


def test_both_recipes_have_their_figures_and_the_ratios_are_theirs():
    found = measure_training(_settings(trained_documents=24, naive_questions=2), lambda line: None)
    values = {(row.system, row.metric): row.value for row in found.rows.itertuples()}
    for recipe in ("zrag", "naive"):
        assert values[recipe, "tokens_per_s"] > 0
        assert values[recipe, "peak_memory"] >= values[recipe, "peak_memory_before_training"] > 0
    # The same questions on average: tokens a second differ as seconds a question do.
    faster = values["naive", "seconds_per_question"] / values["zrag", "seconds_per_question"]
    assert values["zrag", "tokens_per_s_against_naive"] == pytest.approx(faster)
    assert values["zrag", "peak_memory_against_naive"] == pytest.approx(
        values["zrag", "peak_memory"] / values["naive", "peak_memory"]
    )
    assert set(found.rows["n_documents"]) == {24}


def test_a_process_that_fails_says_why():
    settings = _settings(trained_documents=24, naive_questions=2)
    backbone = settings.backbone.model_copy(update={"name": "no/such-model"})
    with pytest.raises(ZragError, match=r"recipe 'zrag' ended with 1: .*no/such-model"):
        measure_training(settings.model_copy(update={"backbone": backbone}), lambda line: None)
