"""The job `benchmark`: what a question costs, by the number of documents."""

import pandas as pd
import pytest

from zrag_core.corpus.types import Document
from zrag_core.model.store.checkpoint import checkpoint_digest
from zrag_core.model.store.skill_folder import shipped_skill
from zrag_core.settings import Settings, load_settings
from zrag_pipeline.defs.benchmarks import scale
from zrag_pipeline.defs.benchmarks.scale_indexes import searches
from zrag_pipeline.platform.handles import SkillReference


@pytest.fixture(scope="module")
def measured():
    patch = pytest.MonkeyPatch()
    patch.setattr(scale, "DISTINCT", 20)
    patch.setattr(scale, "_ASKED", 4)
    settings = load_settings(
        {
            "backbone": {"threads": 1},
            "decoding": {"routed_documents": 2, "max_new_tokens": 4},
            "writing": {"steps": 0},
            "benchmark": {"sizes": [20, 60], "routed_sizes": [100], "seeds": [5]},
        }
    )
    folder = shipped_skill()
    yield scale.measure_scale(
        settings, SkillReference("zrag-tiny", folder, checkpoint_digest(folder)), lambda line: None
    )
    patch.undo()


def test_every_number_of_documents_has_its_figures(measured):
    rows = measured.rows
    own = rows[rows["system"] == "zrag"]
    for n in (20, 60):
        names = set(own[own["n_documents"] == n]["metric"])
        assert {
            "routing_p50",
            "routing_p95",
            "routing_of_32",
            "scoring_p50",
            "query_p50",
            "opening",
            "peak_memory",
        } <= names
    assert set(own[own["n_documents"] == 100]["metric"]) == {
        f"{what}_{kind}" for what in ("routing", "scoring") for kind in ("p50", "p95", "of_32")
    }
    assert {"zrag_free", "rank_bm25", "dense"} <= set(rows["system"])
    assert (rows["value"] > 0).all()
    assert set(measured.plots) == {"scoring.png", "query.png", "bytes.png"}


def test_a_document_takes_as_much_however_often_it_is_repeated(measured):
    rows: pd.DataFrame = measured.rows
    size = rows[(rows["system"] == "zrag") & (rows["metric"] == "bytes_per_document")]["value"]
    assert size.max() == pytest.approx(size.min(), rel=0.01)


def test_indexes_find_what_is_asked_for():
    documents = [
        Document(f"d{n}", "Mill", f"The {word} mill was built in {1800 + n}.")
        for n, word in enumerate(("old", "red", "far"))
    ]
    for search in searches(documents, Settings()):
        assert search.size > 0
        search.run(["Which mill is red?"])


def test_the_memory_of_a_process_is_its_own_and_not_that_of_the_one_which_started_it():
    import subprocess
    import sys

    code = "from zrag_pipeline.platform.peak_memory import peak_memory; print(peak_memory())"
    held = bytearray(600 * 2**20)  # of this process
    small = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    more = f"held = bytearray(300 * 2**20); {code}"
    large = float(subprocess.run([sys.executable, "-c", more], capture_output=True, text=True, check=True).stdout)
    assert len(held) == 600 * 2**20
    assert small < 0.4
    assert large - small == pytest.approx(300 / 1024, abs=0.05)
